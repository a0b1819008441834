"""The official Python client of the handshake era (mcp 1.x), unmodified, against a
running hub: over HTTP, and on stdio by way of `neuralhub mcp`."""

import json
import os
import unittest

from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

HUB = os.environ["HUB_URL"]
KEY = os.environ["HUB_KEY"]
BINARY = os.environ["HUB_BINARY"]


async def look_at(test, session):
    greeted = await session.initialize()
    test.assertEqual(greeted.serverInfo.name, "neuralhub")
    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    test.assertTrue(tools["calculate"].annotations.readOnlyHint)
    test.assertIn("run_agent_default", tools)

    told = []

    async def progress(number, total, message):
        told.append(message)

    called = await session.call_tool("calculate", {"expression": "17 * 23"})
    test.assertFalse(called.isError)
    test.assertEqual(called.structuredContent["result"], "391")
    agent = await session.call_tool("run_agent_default", {"goal": "What is 17 * 23?"}, progress_callback=progress)
    test.assertIn("391", agent.content[0].text)
    test.assertTrue(any("calculate" in message for message in told), told)
    wrong = await session.call_tool("calculate", {"expresion": "1"})
    test.assertTrue(wrong.isError)
    test.assertIn("expression", wrong.content[0].text)
    with test.assertRaises(McpError):
        await session.call_tool("conjure", {})

    run = f"neuralhub://runs/{called.meta['neuralhub/runId']}"
    uris = [str(resource.uri) for resource in (await session.list_resources()).resources]
    test.assertIn(run, uris)
    shown = json.loads((await session.read_resource(run)).contents[0].text)
    test.assertEqual(shown["target"], "calculate")
    with test.assertRaises(McpError):
        await session.read_resource("neuralhub://runs/none")
    names = [prompt.name for prompt in (await session.list_prompts()).prompts]
    test.assertIn("agent_default", names)
    prompt = await session.get_prompt("agent_default", {"goal": "Greet me."})
    test.assertEqual(prompt.messages[-1].content.text, "Greet me.")


class HandshakeEra(unittest.IsolatedAsyncioTestCase):
    async def test_over_http(self):
        http = create_mcp_http_client(headers={"Authorization": f"Bearer {KEY}"})
        async with http, streamable_http_client(f"{HUB}/v1/mcp", http_client=http) as (read, write, _):
            async with ClientSession(read, write) as session:
                await look_at(self, session)

    async def test_on_stdio(self):
        hub = {"NEURALHUB_URL": HUB, "NEURALHUB_API_KEY": KEY}
        program = StdioServerParameters(command=BINARY, args=["mcp"], env=hub)
        async with stdio_client(program) as (read, write), ClientSession(read, write) as session:
            await look_at(self, session)


if __name__ == "__main__":
    unittest.main()
