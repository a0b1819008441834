// Servers that others wrote, as the hub calls them: over HTTP, on stdio, and another hub.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const { HUB_URL, HUB_KEY, FIXTURES_URL, FIXTURES_KEY } = process.env;
const headers = { Authorization: `Bearer ${HUB_KEY}`, "Content-Type": "application/json" };

async function api(method, path, body) {
  const response = await fetch(HUB_URL + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

const run = (target, type, input) => api("POST", "/v1/run", { target, type, input });

// A port that is free now.
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

let everything;
let everythingUrl;

before(async () => {
  const port = await freePort();
  const main = fileURLToPath(
    new URL("node_modules/@modelcontextprotocol/server-everything/dist/index.js", import.meta.url),
  );
  everything = spawn(process.execPath, [main, "streamableHttp"], {
    env: { PORT: String(port), PATH: process.env.PATH },
    stdio: "ignore",
  });
  everythingUrl = `http://127.0.0.1:${port}/mcp`;
  // It is there once it answers anything.
  for (;;) {
    try {
      await fetch(everythingUrl);
      break;
    } catch {
      assert.equal(everything.exitCode, null, "the server ended");
    }
  }
});

after(() => everything.kill());

test("the reference server's tools are called over streamable HTTP", async () => {
  const server = await api("POST", "/v1/mcp/servers", { name: "everything", url: everythingUrl });
  assert.equal(server.status, "available", JSON.stringify(server));
  assert.ok(server.tools.includes("everything.echo"), JSON.stringify(server.tools));
  assert.deepEqual(server.skipped, []);
  const echoed = await run("everything.echo", "tool", { message: "Good morning" });
  assert.equal(echoed.result, "Echo: Good morning", JSON.stringify(echoed));
  const sum = await run("everything.get-sum", "tool", { a: 17, b: 25 });
  assert.match(sum.result, /42/);
  const image = await run("everything.get-tiny-image", "tool", {});
  assert.match(image.result, /\[image, image\/png, \d+ bytes, not shown\]/);
  const weather = await run("everything.get-structured-content", "tool", { location: "Chicago" });
  assert.ok("temperature" in weather.result, JSON.stringify(weather));
  const wrong = await api("POST", "/v1/run", { target: "everything.get-sum", type: "tool", input: { a: "x" } });
  assert.equal(wrong.error.code, "invalid_input", JSON.stringify(wrong));
});

test("an agent uses a tool of a server that others wrote", async () => {
  const agent = { id: "mcp_adder", name: "Adder", tools: ["everything.get-sum"] };
  await api("POST", "/v1/agents", agent);
  const ended = await run("mcp_adder", "agent", { goal: "Get the sum of a = 17 and b = 25." });
  assert.equal(ended.state, "SUCCESS", JSON.stringify(ended));
  const [event] = ended.events;
  assert.equal(event.tool, "everything.get-sum");
  assert.match(JSON.stringify(event.output), /42/);
  assert.match(ended.result, /42/);
});

test("a program of the configuration is called on stdio", async () => {
  let clock;
  do {
    clock = await api("GET", "/v1/mcp/servers/clock");
  } while (clock.status === "pending");
  assert.equal(clock.status, "available", JSON.stringify(clock));
  assert.equal(clock.kind, "local");
  assert.deepEqual(clock.tools, ["clock.convert_time", "clock.get_current_time"]);
  const converted = await run("clock.convert_time", "tool", {
    source_timezone: "Europe/Berlin", time: "16:30", target_timezone: "Asia/Tokyo",
  });
  assert.equal(converted.state, "SUCCESS", JSON.stringify(converted));
  assert.match(JSON.stringify(converted.result), /Asia\/Tokyo/);
  const wrong = await run("clock.get_current_time", "tool", { timezone: "Mars/Olympus" });
  assert.equal(wrong.error.code, "tool_failed", JSON.stringify(wrong));
  const change = await fetch(`${HUB_URL}/v1/mcp/servers/clock`, { method: "DELETE", headers });
  assert.equal(change.status, 409);
});

test("a hub is a server for another hub", async () => {
  const url = `${FIXTURES_URL}/v1/mcp`;
  const server = await api("POST", "/v1/mcp/servers", { name: "other-hub", url, bearer_token: FIXTURES_KEY });
  assert.equal(server.status, "available", JSON.stringify(server));
  assert.equal(server.protocol_version, "2026-07-28");
  const sum = await run("other-hub.calculate", "tool", { expression: "6 * 7" });
  assert.equal(sum.result.result, "42", JSON.stringify(sum));
  await api("PATCH", "/v1/mcp/servers/other-hub", { bearer_token: `nh_${"0".repeat(40)}` });
  const refused = await api("GET", "/v1/mcp/servers/other-hub");
  assert.equal(refused.status, "unavailable");
  assert.match(refused.unavailable_reason, /401/);
});
