// `neuralhub mcp`, message by message.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";

const { HUB_URL, HUB_KEY, HUB_BINARY } = process.env;
const headers = { Authorization: `Bearer ${HUB_KEY}`, "Content-Type": "application/json" };

async function api(method, path, body) {
  const response = await fetch(HUB_URL + path, { method, headers, body: body && JSON.stringify(body) });
  return response.json();
}

class Bridge {
  constructor(url = HUB_URL) {
    const env = { NEURALHUB_URL: url, NEURALHUB_API_KEY: HUB_KEY };
    this.process = spawn(HUB_BINARY, ["mcp"], { env, stdio: ["pipe", "pipe", "inherit"] });
    this.lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  say(message) {
    this.process.stdin.write(`${typeof message === "string" ? message : JSON.stringify(message)}\n`);
  }

  async hear() {
    return JSON.parse((await this.lines.next()).value);
  }

  async end() {
    this.process.stdin.end();
    const [code] = await once(this.process, "exit");
    return code;
  }
}

const call = (id, name, args) => ({
  jsonrpc: "2.0", id, method: "tools/call", params: { name, arguments: args },
});

test("what is no message is told so, and the next is answered", async () => {
  const bridge = new Bridge();
  bridge.say("{nothing");
  assert.equal((await bridge.hear()).error.code, -32700);
  bridge.say(Buffer.from([0x7b, 0xff, 0x7d]).toString("latin1"));
  assert.equal((await bridge.hear()).error.code, -32700);
  bridge.say({ jsonrpc: "2.0", method: "notifications/initialized" });
  bridge.say({ jsonrpc: "2.0", id: "a", method: "ping" });
  assert.deepEqual(await bridge.hear(), { jsonrpc: "2.0", id: "a", result: {} });
  bridge.say({ jsonrpc: "2.0", id: 2, method: "conjure" });
  assert.equal((await bridge.hear()).id, 2);
  assert.equal(await bridge.end(), 0);
});

test("a hub that is not there is told as the answer", async () => {
  const bridge = new Bridge("http://127.0.0.1:9");
  bridge.say({ jsonrpc: "2.0", id: 1, method: "ping" });
  const { id, error } = await bridge.hear();
  assert.equal(id, 1);
  assert.match(error.message, /no hub answers at/);
  assert.equal(await bridge.end(), 0);
});

test("what is cancelled is cancelled in the hub, before 2026-07-28 too", async () => {
  const flow = { id: "stdio_waits", name: "Waits", steps: [{ id: "ask", uses: "approval" }] };
  await api("POST", "/v1/workflows", flow);
  const bridge = new Bridge();
  bridge.say(call(7, "run_workflow_stdio_waits", {}));
  const runs = async (state) => (await api("GET", `/v1/runs?target=stdio_waits&state=${state}`)).runs;
  while ((await runs("WAITING")).length === 0);
  bridge.say({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 7 } });
  while ((await runs("CANCELLED")).length === 0);
  bridge.say(call(8, "calculate", { expression: "6 * 7" }));
  assert.equal((await bridge.hear()).result.structuredContent.result, "42");
  assert.equal(await bridge.end(), 0);
});
