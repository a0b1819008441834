// Anthropic's unmodified Node SDK against a running hub. scripts/test-clients
// starts the hub and the mock upstream and sets HUB_URL and HUB_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const offline = "neuralhub/offline";
const made = (apiKey) =>
  new Anthropic({ baseURL: process.env.HUB_URL, apiKey, maxRetries: 0, timeout: 30_000 });
const client = made(process.env.HUB_KEY);
const ask = (model, content = "Hi") => ({ model, max_tokens: 256, messages: [{ role: "user", content }] });
const weather = {
  name: "get_weather",
  description: "The weather in a city",
  input_schema: {
    type: "object",
    properties: { city: { type: "string", description: "The city's name" } },
    required: ["city"],
  },
};

test("messages: plain", async () => {
  const answer = await client.messages.create(ask("mock-chat"));
  assert.equal(answer.content[0].text, "Hello from the upstream!");
  assert.equal(answer.usage.input_tokens + answer.usage.output_tokens, 12);
});

for (const model of ["mock-chat", "mock-bare", offline]) {
  test(`messages: streamed by ${model}`, async () => {
    const words = [];
    const stream = client.messages.stream(ask(model)).on("text", (text) => words.push(text));
    const answer = await stream.finalMessage();
    assert.equal(words.join(""), answer.content[0].text);
    assert.equal(answer.stop_reason, "end_turn");
  });
}

for (const model of ["cut-anthropic-js/mock-cut", "cut-anthropic-js/mock-early-end", "cut-anthropic-js/mock-error-frame"]) {
  test(`messages: ${model} fails in mid-stream as an error`, async () => {
    await assert.rejects(client.messages.stream(ask(model)).finalMessage(), Anthropic.APIError);
  });
}

for (const model of ["mock-tools", offline]) {
  test(`tools: a round trip with ${model}`, async () => {
    const body = { ...ask(model, "What is the weather in Oslo?"), tools: [weather] };
    const first = await client.messages.stream(body).finalMessage();
    const call = first.content.at(-1);
    assert.deepEqual([first.stop_reason, call.name, call.input], ["tool_use", "get_weather", { city: "Oslo" }]);
    const result = { type: "tool_result", tool_use_id: call.id, content: "7 degrees and rain" };
    const messages = [
      ...body.messages,
      { role: "assistant", content: first.content },
      { role: "user", content: [result] },
    ];
    const second = await client.messages.create({ ...body, messages });
    assert.match(second.content[0].text, /7 degrees and rain/);
  });
}

test("errors are the SDK's own", async () => {
  await assert.rejects(client.messages.create(ask("no/such-model")), (error) => {
    assert.ok(error instanceof Anthropic.NotFoundError);
    assert.equal(error.error.error.type, "not_found_error");
    return true;
  });
  await assert.rejects(made("nh_wrong").messages.create(ask(offline)), Anthropic.AuthenticationError);
  await assert.rejects(client.messages.create(ask("mock-error-429")), Anthropic.RateLimitError);
});
