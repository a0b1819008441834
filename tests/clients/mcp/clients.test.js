// The official TypeScript clients of both eras, unmodified, against a running hub.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { HUB_URL, HUB_KEY, HUB_BINARY } = process.env;
const address = new URL(`${HUB_URL}/v1/mcp`);
const requestInit = { headers: { Authorization: `Bearer ${HUB_KEY}` } };
const itself = { name: "test", version: "1" };

// Closed whatever happens: a connection that is left keeps the tests from ending.
async function lookAt(client, call) {
  try {
    await look(client, call);
  } finally {
    await client.close();
  }
}

async function look(client, call) {
  const { tools } = await client.listTools();
  const calculate = tools.find((tool) => tool.name === "calculate");
  assert.equal(calculate.annotations.readOnlyHint, true);
  const called = await client.callTool({ name: "calculate", arguments: { expression: "17 * 23" } });
  assert.equal(called.structuredContent.result, "391");
  const told = [];
  const agent = await call({ name: "run_agent_default", arguments: { goal: "What is 17 * 23?" } }, {
    onprogress: ({ message }) => told.push(message),
  });
  assert.match(agent.content[0].text, /391/);
  assert.ok(told.some((message) => message.includes("calculate")), JSON.stringify(told));
  const wrong = await client.callTool({ name: "calculate", arguments: { expression: 1 } });
  assert.equal(wrong.isError, true);
  await assert.rejects(client.callTool({ name: "conjure", arguments: {} }));
  const uri = `neuralhub://runs/${called._meta["neuralhub/runId"]}`;
  const { resources } = await client.listResources();
  assert.ok(resources.some((resource) => resource.uri === uri));
  const { contents } = await client.readResource({ uri });
  assert.equal(JSON.parse(contents[0].text).target, "calculate");
  const { messages } = await client.getPrompt({ name: "agent_default", arguments: { goal: "Greet me." } });
  assert.equal(messages.at(-1).content.text, "Greet me.");
}

for (const [era, mode] of [["2026-07-28", "auto"], ["the handshake", "legacy"]]) {
  test(`the client 2.x speaks ${era} over HTTP`, async () => {
    const client = new Client(itself, { versionNegotiation: { mode } });
    await client.connect(new StreamableHTTPClientTransport(address, { requestInit }));
    assert.equal(client.getProtocolEra() === "modern", mode === "auto");
    await lookAt(client, (params, options) => client.callTool(params, options));
  });
}

test("the client 2.x speaks 2026-07-28 on stdio", async () => {
  const client = new Client(itself, { versionNegotiation: { mode: "auto" } });
  const env = { NEURALHUB_URL: HUB_URL, NEURALHUB_API_KEY: HUB_KEY };
  await client.connect(new StdioClientTransport({ command: HUB_BINARY, args: ["mcp"], env }));
  assert.equal(client.getProtocolEra(), "modern");
  await lookAt(client, (params, options) => client.callTool(params, options));
});

test("the client 1.x speaks the handshake era over HTTP", async () => {
  const client = new OldClient(itself);
  await client.connect(new OldTransport(address, { requestInit }));
  await lookAt(client, (params, options) => client.callTool(params, undefined, options));
});
