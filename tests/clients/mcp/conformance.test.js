// The official conformance suites against a running hub that shows their fixtures: 0.1.16 for
// the revisions with a handshake, 0.2.0-alpha.12 for 2026-07-28 and the tasks extension.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

const { FIXTURES_URL, FIXTURES_KEY } = process.env;
const hub = new URL(FIXTURES_URL);
let proxy, place, address;

// The suites cannot send a key.
before(async () => {
  place = await mkdtemp(join(tmpdir(), "conformance-"));
  proxy = http.createServer((request, response) => {
    const headers = { ...request.headers, authorization: `Bearer ${FIXTURES_KEY}` };
    const { method, url: path } = request;
    const onward = http.request({ host: hub.hostname, port: hub.port, path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise((listening) => proxy.listen(0, "127.0.0.1", listening));
  address = `http://127.0.0.1:${proxy.address().port}/v1/mcp`;
});

after(async () => {
  proxy.closeAllConnections();
  proxy.close();
  await rm(place, { recursive: true });
});

// Whatever the suite scores: each check has to pass.
async function passes(suite, options, least) {
  const program = join(import.meta.dirname, "node_modules", suite, "dist/index.js");
  const run = spawn(process.execPath, [program, "server", "--url", address, ...options], { cwd: place });
  let told = "";
  run.stdout.on("data", (text) => (told += text));
  run.stderr.on("data", (text) => (told += text));
  await new Promise((ended) => run.on("close", ended));
  const [, passed, failed] = told.match(/Total: (\d+) passed, (\d+) failed/) ?? [];
  const wrong = told.split("\n").filter((line) => /✗|FAILURE|Error:/.test(line)).join("\n");
  assert.equal(failed, "0", wrong || told.slice(-2000));
  assert.ok(Number(passed) >= least, `only ${passed} checks were made`);
}

test("the revisions with a handshake", () => passes("conformance-handshake", [], 40));
test("2026-07-28 and tasks", () =>
  passes("@modelcontextprotocol/conformance", ["--requirements", "2026-07-28"], 190));
