// OpenAI's unmodified Node SDK against a running hub. scripts/test-clients
// starts the hub and the mock upstream and sets HUB_URL and HUB_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const offline = "neuralhub/offline";
const client = new OpenAI({
  baseURL: `${process.env.HUB_URL}/v1`,
  apiKey: process.env.HUB_KEY,
  maxRetries: 0,
  timeout: 30_000,
});
const say = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string", description: "The city's name" } },
      required: ["city"],
    },
  },
};

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("models: list, and retrieve by an id with a slash", async () => {
  const ids = (await client.models.list()).data.map((model) => model.id);
  assert.ok(ids.includes(offline) && ids.includes("mock-chat"));
  assert.equal((await client.models.retrieve(offline)).id, offline);
});

test("chat: plain", async () => {
  const answer = await client.chat.completions.create({ model: "mock-chat", messages: say("Hi") });
  assert.equal(answer.choices[0].message.content, "Hello from the upstream!");
  assert.equal(answer.usage.total_tokens, 12);
});

for (const model of ["mock-chat", "mock-bare", offline]) {
  test(`chat: streamed by ${model}`, async () => {
    const chunks = await collect(
      await client.chat.completions.create({
        model,
        messages: say("Hi"),
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    const spoken = chunks.filter((chunk) => chunk.choices.length > 0);
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
    assert.equal(spoken[0].choices[0].delta.role, "assistant");
    assert.equal(spoken.at(-1).choices[0].finish_reason, "stop");
    assert.ok(spoken.map((chunk) => chunk.choices[0].delta.content ?? "").join("").length > 0);
    if (model !== "mock-bare") assert.ok(chunks.at(-1).usage.total_tokens > 0);
  });
}

// This SDK takes a clean end without finish_reason for a whole answer: only
// an error frame shows it the failure.
for (const model of ["cut-sdk-js/mock-cut", "cut-sdk-js/mock-early-end", "cut-sdk-js/mock-error-frame"]) {
  test(`chat: ${model} fails in mid-stream as an error`, async () => {
    const stream = await client.chat.completions.create({ model, messages: say("Hi"), stream: true });
    await assert.rejects(collect(stream), OpenAI.APIError);
  });
}

for (const model of ["mock-tools", offline]) {
  test(`tools: a round trip with ${model}`, async () => {
    const messages = say("What is the weather in Oslo?");
    const first = await client.chat.completions.create({ model, messages, tools: [weather] });
    assert.equal(first.choices[0].finish_reason, "tool_calls");
    const call = first.choices[0].message.tool_calls[0];
    assert.equal(JSON.parse(call.function.arguments).city, "Oslo");
    messages.push(first.choices[0].message, { role: "tool", tool_call_id: call.id, content: "7 degrees and rain" });
    const second = await client.chat.completions.create({ model, messages, tools: [weather] });
    assert.match(second.choices[0].message.content, /7 degrees and rain/);
  });

  test(`tools: ${model} streams calls that the SDK's helper runs`, async () => {
    const asked = [];
    const runner = client.chat.completions.runTools({
      model,
      stream: true,
      messages: say("What is the weather in Oslo?"),
      tools: [
        {
          ...weather,
          function: {
            ...weather.function,
            parse: JSON.parse,
            function: ({ city }) => {
              asked.push(city);
              return "7 degrees and rain";
            },
          },
        },
      ],
    });
    assert.match(await runner.finalContent(), /7 degrees and rain/);
    assert.deepEqual(asked, ["Oslo"]);
  });
}

test("embeddings: base64 as the SDK asks, floats, dimensions", async () => {
  const create = (more) => client.embeddings.create({ model: "mock-embed", input: "four", ...more });
  assert.deepEqual([...(await create({})).data[0].embedding], [4, 0.5, -1, 0.25]);
  assert.deepEqual((await create({ encoding_format: "float" })).data[0].embedding, [4, 0.5, -1, 0.25]);
  assert.deepEqual([...(await create({ dimensions: 2 })).data[0].embedding], [4, 0.5]);
});

const errors = [
  ["mock-error-400", OpenAI.BadRequestError, 400],
  ["no/such-model", OpenAI.NotFoundError, 404],
  ["mock-error-429", OpenAI.RateLimitError, 429],
  ["mock-error-401", OpenAI.InternalServerError, 502],
  ["broken/mock-error-500", OpenAI.InternalServerError, 502],
];
for (const [model, expected, status] of errors) {
  for (const stream of [false, true]) {
    test(`errors: ${model} is ${expected.name}${stream ? ", streamed" : ""}`, async () => {
      const call = client.chat.completions.create({ model, messages: say("Hi"), stream });
      await assert.rejects(call, (error) => error.constructor === expected && error.status === status);
    });
  }
}

test("errors: of the hub itself", async () => {
  const stranger = client.withOptions({ apiKey: "nh_wrong" });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  const { key } = await client.post("/keys", { body: { name: "client test", scopes: ["agents:read"] } });
  const scoped = client.withOptions({ apiKey: key });
  await assert.rejects(
    scoped.chat.completions.create({ model: offline, messages: say("Hi") }),
    OpenAI.PermissionDeniedError,
  );
  const again = { id: "agent_default", name: "again" };
  await assert.rejects(client.post("/agents", { body: again }), OpenAI.ConflictError);
  const unknown = { target: "agent_nobody", type: "agent", input: { goal: "x" } };
  await assert.rejects(client.post("/run", { body: unknown }), OpenAI.UnprocessableEntityError);
});
