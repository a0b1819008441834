"""The official Python client 2.x, unmodified, against a running hub. It asks which revision
is spoken before anything else, and takes 2026-07-28."""

import json
import os
import unittest

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

HUB = os.environ["HUB_URL"]
KEY = os.environ["HUB_KEY"]
BINARY = os.environ["HUB_BINARY"]


async def look_at(test, client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    test.assertTrue(tools["calculate"].annotations.read_only_hint)
    test.assertIn("run_agent_default", tools)

    told = []

    async def progress(number, total, message):
        told.append(message)

    called = await client.call_tool("calculate", {"expression": "17 * 23"})
    test.assertFalse(called.is_error)
    test.assertEqual(called.structured_content["result"], "391")
    agent = await client.call_tool("run_agent_default", {"goal": "What is 17 * 23?"}, progress_callback=progress)
    test.assertIn("391", agent.content[0].text)
    test.assertTrue(any("calculate" in message for message in told), told)
    wrong = await client.call_tool("calculate", {"expresion": "1"})
    test.assertTrue(wrong.is_error)
    test.assertIn("expression", wrong.content[0].text)
    with test.assertRaises(MCPError):
        await client.call_tool("conjure", {})

    run = f"neuralhub://runs/{called.meta['neuralhub/runId']}"
    uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
    test.assertIn(run, uris)
    shown = json.loads((await client.read_resource(run)).contents[0].text)
    test.assertEqual(shown["target"], "calculate")
    with test.assertRaises(MCPError):
        await client.read_resource("neuralhub://runs/none")
    names = [prompt.name for prompt in (await client.list_prompts()).prompts]
    test.assertIn("agent_default", names)
    prompt = await client.get_prompt("agent_default", {"goal": "Greet me."})
    test.assertEqual(prompt.messages[-1].content.text, "Greet me.")


class BothEras(unittest.IsolatedAsyncioTestCase):
    async def over_http(self, mode, version):
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
            transport = streamable_http_client(f"{HUB}/v1/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                self.assertEqual(client.protocol_version, version)
                await look_at(self, client)

    async def test_over_http(self):
        await self.over_http("auto", "2026-07-28")

    async def test_over_http_with_a_handshake(self):
        await self.over_http("legacy", "2025-11-25")

    async def test_on_stdio(self):
        hub = {"NEURALHUB_URL": HUB, "NEURALHUB_API_KEY": KEY}
        async with Client(StdioServerParameters(command=BINARY, args=["mcp"], env=hub)) as client:
            self.assertEqual(client.protocol_version, "2026-07-28")
            await look_at(self, client)


if __name__ == "__main__":
    unittest.main()
