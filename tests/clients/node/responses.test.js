// OpenAI's unmodified Node SDK and the hub's Responses API. scripts/test-clients
// starts the hub and the mock upstream and sets HUB_URL and HUB_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const offline = "neuralhub/offline";
const { responses } = new OpenAI({
  baseURL: `${process.env.HUB_URL}/v1`,
  apiKey: process.env.HUB_KEY,
  maxRetries: 0,
  timeout: 30_000,
});
const question = { role: "user", content: "What is the weather in Oslo?" };
const weather = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string", description: "The city's name" } },
    required: ["city"],
    additionalProperties: false,
  },
};

test("responses: plain", async () => {
  const response = await responses.create({ model: "mock-chat", input: "Hi" });
  assert.equal(response.output_text, "Hello from the upstream!");
  assert.equal(response.status, "completed");
  assert.equal(response.usage.total_tokens, 12);
});

for (const model of ["mock-chat", "mock-bare", offline]) {
  test(`responses: streamed by ${model}`, async () => {
    const words = [];
    const stream = responses.stream({ model, input: "Hi" });
    stream.on("response.output_text.delta", (event) => words.push(event.delta));
    const final = await stream.finalResponse();
    assert.equal(final.status, "completed");
    assert.ok(words.length > 0);
    assert.equal(words.join(""), final.output_text);
  });
}

for (const model of ["cut-responses-js/mock-cut", "cut-responses-js/mock-early-end", "cut-responses-js/mock-error-frame"]) {
  test(`responses: ${model} fails in mid-stream as an event`, async () => {
    let last;
    for await (const event of await responses.create({ model, input: "Hi", stream: true })) last = event;
    assert.equal(last.type, "response.failed");
    assert.equal(last.response.error.code, "server_error");
  });
}

for (const model of ["mock-tools", offline]) {
  test(`responses: a streamed call of ${model}, and its round trip`, async () => {
    const tools = [weather];
    const first = await responses.stream({ model, input: [question], tools }).finalResponse();
    const call = first.output.find((item) => item.type === "function_call");
    assert.equal(JSON.parse(call.arguments).city, "Oslo");
    const output = { type: "function_call_output", call_id: call.call_id, output: "7 degrees and rain" };
    const second = await responses.create({ model, input: [question, ...first.output, output], tools });
    assert.match(second.output_text, /7 degrees and rain/);
  });
}

test("responses: what the hub does not keep is refused", async () => {
  const call = responses.create({ model: offline, input: "Hi", previous_response_id: "resp_1" });
  await assert.rejects(call, (error) => error.status === 400 && error.param === "previous_response_id");
});
