// The command line of the official Inspector, over HTTP and on stdio.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

const { HUB_URL, HUB_KEY, HUB_BINARY } = process.env;
const inspector = join(import.meta.dirname, "node_modules/.bin/mcp-inspector");

async function inspect(target, method, ...options) {
  const given = ["--cli", ...target, "--method", method, ...options];
  const { stdout } = await promisify(execFile)(inspector, given, { timeout: 60_000 });
  return JSON.parse(stdout);
}

const overHttp = [`${HUB_URL}/v1/mcp`, "--transport", "http", "--header", `Authorization: Bearer ${HUB_KEY}`];
const onStdio = ["-e", `NEURALHUB_URL=${HUB_URL}`, "-e", `NEURALHUB_API_KEY=${HUB_KEY}`, HUB_BINARY, "mcp"];

for (const [name, target] of [["over HTTP", overHttp], ["on stdio", onStdio]]) {
  test(`the Inspector lists and calls tools ${name}`, async () => {
    const { tools } = await inspect(target, "tools/list");
    assert.ok(tools.some((tool) => tool.name === "run_agent_default"));
    const options = ["--tool-name", "calculate", "--tool-arg", "expression=17 * 23"];
    const called = await inspect(target, "tools/call", ...options);
    assert.equal(called.structuredContent.result, "391");
  });
}
