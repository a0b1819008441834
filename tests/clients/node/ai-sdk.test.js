// The unmodified AI SDK (https://ai-sdk.dev) against a running hub.
// scripts/test-clients starts the hub and the mock upstream and sets HUB_URL and HUB_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, streamText, tool } from "ai";

const hub = createOpenAICompatible({
  name: "neuralhub",
  baseURL: `${process.env.HUB_URL}/v1`,
  apiKey: process.env.HUB_KEY,
  includeUsage: true,
});
const offline = "neuralhub/offline";
const ask = (model, prompt, more) => ({ model: hub(model), prompt, maxRetries: 0, ...more });

/** A tool that notes what it was asked, and what to give the SDK for it. */
function weather(asked) {
  const inputSchema = jsonSchema({
    type: "object",
    properties: { city: { type: "string", description: "The city's name" } },
    required: ["city"],
  });
  const execute = async ({ city }) => {
    asked.push(city);
    return "7 degrees and rain";
  };
  const get_weather = tool({ description: "The weather in a city", inputSchema, execute });
  return { tools: { get_weather }, stopWhen: isStepCount(3) };
}

test("ai: generateText", async () => {
  const { text, usage, finishReason } = await generateText(ask("mock-chat", "Hi"));
  assert.equal(text, "Hello from the upstream!");
  assert.deepEqual([usage.totalTokens, finishReason], [12, "stop"]);
});

for (const model of ["mock-chat", "mock-bare", offline]) {
  test(`ai: streamText by ${model}`, async () => {
    const result = streamText(ask(model, "Hi"));
    const words = [];
    for await (const word of result.textStream) words.push(word);
    assert.ok(words.length > 0);
    assert.equal(words.join(""), await result.text);
    assert.equal(await result.finishReason, "stop");
    assert.ok((await result.usage).totalTokens > 0);
  });
}

for (const model of ["mock-tools", offline]) {
  test(`ai: ${model} calls a tool, whole and streamed`, async () => {
    const asked = [];
    const whole = await generateText(ask(model, "What is the weather in Oslo?", weather(asked)));
    assert.match(whole.text, /7 degrees and rain/);
    const streamed = streamText(ask(model, "What is the weather in Oslo?", weather(asked)));
    assert.match(await streamed.text, /7 degrees and rain/);
    assert.deepEqual(asked, ["Oslo", "Oslo"]);
  });
}

test("ai: an unknown model is a 404", async () => {
  await assert.rejects(generateText(ask("no/such-model", "Hi")), (error) => error.statusCode === 404);
});
