"""OpenAI's unmodified Python SDK against a running hub.

scripts/test-clients starts the hub and the mock upstream and sets HUB_URL,
HUB_KEY and MOCK_URL.
"""

import json
import os
import time
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai

URL = os.environ["HUB_URL"]
KEY = os.environ["HUB_KEY"]
OFFLINE = "neuralhub/offline"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name"}},
            "required": ["city"],
        },
    },
}


def client(key=KEY, retries=0):
    return openai.OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=retries, timeout=30)


def say(text):
    return [{"role": "user", "content": text}]


def new_key(*scopes):
    answer = client().post("/keys", body={"name": "client test", "scopes": list(scopes)}, cast_to=object)
    return answer["key"]


class Models(unittest.TestCase):
    def test_list_holds_both_the_provider_s_and_the_built_in(self):
        ids = [model.id for model in client().models.list()]
        self.assertIn(OFFLINE, ids)
        self.assertIn("mock-chat", ids)

    def test_an_id_with_a_slash_is_found(self):
        model = client().models.retrieve(OFFLINE)
        self.assertEqual((model.id, model.object), (OFFLINE, "model"))

    def test_an_unknown_model_is_not_found(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            client().models.retrieve("no/such-model")
        self.assertEqual(raised.exception.code, "model_not_found")


class Chat(unittest.TestCase):
    def test_plain(self):
        answer = client().chat.completions.create(model="mock-chat", messages=say("Hi"))
        choice = answer.choices[0]
        self.assertEqual(choice.message.content, "Hello from the upstream!")
        self.assertEqual((choice.index, choice.finish_reason, choice.message.role), (0, "stop", "assistant"))
        self.assertEqual(answer.usage.total_tokens, 12)

    def test_unknown_fields_reach_the_upstream_and_come_back(self):
        answer = client().chat.completions.create(
            model="mock-chat", messages=say("Hi"), extra_body={"top_k": 40, "provider": {"order": ["a"]}}
        )
        self.assertIn("top_k", answer.received)
        self.assertIn("provider", answer.received)

    def test_the_developer_role_and_parts_are_taken(self):
        messages = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ]
        for model in ("mock-chat", OFFLINE):
            answer = client().chat.completions.create(model=model, messages=messages)
            self.assertTrue(answer.choices[0].message.content)

    def test_the_offline_model_says_what_it_is(self):
        answer = client().chat.completions.create(model=OFFLINE, messages=say("Who are you?"))
        self.assertIn("not a language model", answer.choices[0].message.content)


class Streams(unittest.TestCase):
    def stream(self, model, **more):
        return list(client().chat.completions.create(model=model, messages=say("Hi"), stream=True, **more))

    def check_form(self, chunks):
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        self.assertEqual(len({chunk.created for chunk in chunks}), 1)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        with_choices = [chunk for chunk in chunks if chunk.choices]
        self.assertTrue(all(chunk.choices[0].index == 0 for chunk in with_choices))
        self.assertEqual(with_choices[-1].choices[0].finish_reason, "stop")

    def test_words_come_in_order(self):
        for model in ("mock-chat", "mock-bare"):
            with self.subTest(model):
                chunks = self.stream(model)
                self.check_form(chunks)
                self.assertTrue(all(chunk.choices for chunk in chunks), "no empty choices unless usage was asked for")
                words = [chunk.choices[0].delta.content or "" for chunk in chunks]
                self.assertEqual("".join(words), "Hello from the upstream!")

    def test_usage_comes_last_when_asked_for(self):
        for model in ("mock-chat", OFFLINE):
            with self.subTest(model):
                chunks = self.stream(model, stream_options={"include_usage": True})
                self.check_form(chunks)
                self.assertEqual(chunks[-1].choices, [])
                self.assertGreater(chunks[-1].usage.total_tokens, 0)

    def test_the_offline_model_streams(self):
        self.check_form(self.stream(OFFLINE))

    def test_a_failure_in_mid_stream_is_an_error(self):
        for model in ("cut-sdk-py/mock-cut", "cut-sdk-py/mock-early-end", "cut-sdk-py/mock-error-frame"):
            with self.subTest(model), self.assertRaises(openai.APIError):
                self.stream(model)

    def test_an_unknown_model_is_refused_before_the_stream(self):
        with self.assertRaises(openai.NotFoundError):
            self.stream("no-such-model")

    def test_a_client_that_goes_away_cancels_the_upstream(self):
        before = disconnects()
        stream = client().chat.completions.create(model="mock-endless", messages=say("Hi"), stream=True)
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + 20
        while disconnects() == before:
            self.assertLess(time.monotonic(), deadline, "the hub went on reading from the upstream")
            time.sleep(0.05)


def disconnects():
    with urllib.request.urlopen(f"{os.environ['MOCK_URL']}/state") as answer:
        return json.load(answer)["disconnects"]


class Tools(unittest.TestCase):
    def round_trip(self, model, first):
        call = first.tool_calls[0]
        self.assertEqual(call.function.name, "get_weather")
        self.assertIn("Oslo", json.loads(call.function.arguments)["city"])
        messages = [
            *say("What is the weather in Oslo?"),
            first.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "7 degrees and rain"},
        ]
        answer = client().chat.completions.create(model=model, messages=messages, tools=[WEATHER])
        self.assertIn("7 degrees and rain", answer.choices[0].message.content)

    def test_plain(self):
        for model in ("mock-tools", OFFLINE):
            with self.subTest(model):
                messages = say("What is the weather in Oslo?")
                answer = client().chat.completions.create(model=model, messages=messages, tools=[WEATHER])
                self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
                self.round_trip(model, answer.choices[0].message)

    def test_streamed(self):
        for model in ("mock-tools", OFFLINE):
            with self.subTest(model):
                messages = say("What is the weather in Oslo?")
                with client().chat.completions.stream(model=model, messages=messages, tools=[WEATHER]) as stream:
                    choice = stream.get_final_completion().choices[0]
                self.assertEqual(choice.finish_reason, "tool_calls")
                self.assertEqual(json.loads(choice.message.tool_calls[0].function.arguments)["city"], "Oslo")


class Embeddings(unittest.TestCase):
    def test_base64_as_the_sdk_asks_and_floats_as_the_caller_asks(self):
        for more in ({}, {"encoding_format": "float"}):
            with self.subTest(more):
                answer = client().embeddings.create(model="mock-embed", input=["four", "seven77"], **more)
                self.assertEqual(answer.data[0].embedding, [4.0, 0.5, -1.0, 0.25])
                self.assertEqual(answer.data[1].embedding[0], 7.0)
                self.assertGreater(answer.usage.total_tokens, 0)

    def test_dimensions(self):
        answer = client().embeddings.create(model="mock-embed", input="four", dimensions=2)
        self.assertEqual(answer.data[0].embedding, [4.0, 0.5])


class Errors(unittest.TestCase):
    def check(self, expected, status, code, call):
        with self.assertRaises(expected) as raised:
            call()
        error = raised.exception
        self.assertEqual((type(error), error.status_code), (expected, status))
        if code:
            self.assertEqual(error.code, code)
        self.assertTrue(error.request_id)
        self.assertNotIn("upstream-secret", str(error))
        return error

    def chat(self, model="mock-chat", key=KEY, **more):
        return lambda: client(key).chat.completions.create(model=model, messages=say("Hi"), **more)

    def test_the_hub_s_own(self):
        self.check(openai.AuthenticationError, 401, "invalid_credential", self.chat(key="nh_wrong"))
        scoped = new_key("agents:read")
        self.check(openai.PermissionDeniedError, 403, "missing_scope", self.chat(key=scoped))
        self.check(openai.NotFoundError, 404, "model_not_found", self.chat("no/such-model"))
        empty = lambda: client().post("/chat/completions", body={"model": "mock-chat"}, cast_to=object)
        self.check(openai.BadRequestError, 400, None, empty)
        agent = lambda: client().post("/agents", body={"id": "agent_default", "name": "again"}, cast_to=object)
        self.check(openai.ConflictError, 409, "already_exists", agent)
        run = {"target": "agent_nobody", "type": "agent", "input": {"goal": "x"}}
        self.check(
            openai.UnprocessableEntityError,
            422,
            "unknown_target",
            lambda: client().post("/run", body=run, cast_to=object),
        )

    def test_the_upstream_s(self):
        self.check(openai.BadRequestError, 400, None, self.chat("mock-error-400"))
        limited = self.check(openai.RateLimitError, 429, None, self.chat("mock-error-429"))
        self.assertEqual(limited.response.headers["retry-after"], "7")
        # Our credential was refused, not the client's.
        self.check(openai.InternalServerError, 502, "upstream_refused", self.chat("mock-error-401"))
        self.check(openai.InternalServerError, 502, None, self.chat("broken/mock-error-500"))

    def test_an_upstream_s_refusal_is_told_before_a_stream_starts(self):
        self.check(openai.RateLimitError, 429, None, self.chat("mock-error-429", stream=True))
        self.check(openai.InternalServerError, 502, None, self.chat("broken/mock-error-500", stream=True))

    def test_a_rate_limited_key_is_told_when_to_come_back(self):
        body = {"name": "slow", "scopes": ["models:read"], "rate_limit": 2}
        slow = client(client().post("/keys", body=body, cast_to=object)["key"])

        def until_limited():
            for _ in range(20):
                slow.models.list()

        error = self.check(openai.RateLimitError, 429, "rate_limited", until_limited)
        self.assertGreater(int(error.response.headers["retry-after"]), 0)


class Runs(unittest.TestCase):
    def test_an_agent_runs_to_its_end(self):
        agent = {"name": "Calculator", "model_id": OFFLINE, "tools": ["calculate"]}
        agent_id = client().post("/agents", body=agent, cast_to=object)["id"]
        body = {"target": agent_id, "type": "agent", "input": {"goal": "What is 17 * 23?"}}
        run = client().post("/run", body=body, cast_to=object)
        self.assertEqual(run["state"], "SUCCESS")
        self.assertEqual([event["tool"] for event in run["events"]], ["calculate"])
        self.assertIn("391", run["result"])


class ManyAtOnce(unittest.TestCase):
    def test_answers_are_not_mixed_up(self):
        def ask(number):
            answer = client().chat.completions.create(
                model="mock-tools", messages=[*say("x"), {"role": "tool", "tool_call_id": "c", "content": str(number)}]
            )
            return answer.choices[0].message.content

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(64)))
        self.assertEqual(answers, [f"The tool said: {number}" for number in range(64)])


if __name__ == "__main__":
    unittest.main()
