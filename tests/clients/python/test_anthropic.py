"""Anthropic's unmodified Python SDK against a running hub.

scripts/test-clients starts the hub and the mock upstream and sets HUB_URL,
HUB_KEY and MOCK_URL.
"""

import os
import unittest

import anthropic

URL = os.environ["HUB_URL"]
KEY = os.environ["HUB_KEY"]
OFFLINE = "neuralhub/offline"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city's name"}},
        "required": ["city"],
    },
}


def client(key=KEY):
    return anthropic.Anthropic(base_url=URL, api_key=key, max_retries=0, timeout=30)


def say(text):
    return [{"role": "user", "content": text}]


def ask(model, text="Hi", key=KEY, **more):
    return client(key).messages.create(model=model, max_tokens=256, messages=say(text), **more)


class Messages(unittest.TestCase):
    def test_plain(self):
        answer = ask("mock-chat", system="Be brief.")
        self.assertEqual(answer.content[0].text, "Hello from the upstream!")
        self.assertEqual((answer.type, answer.role, answer.stop_reason), ("message", "assistant", "end_turn"))
        self.assertEqual((answer.usage.input_tokens, answer.usage.output_tokens), (7, 5))

    def test_the_offline_model_says_what_it_is(self):
        self.assertIn("not a language model", ask(OFFLINE, "Who are you?").content[0].text)

    def test_tokens_are_counted(self):
        count = client().messages.count_tokens(model=OFFLINE, messages=say("Hello, how are you?"))
        self.assertGreater(count.input_tokens, 0)

    def test_models_are_listed(self):
        ids = [model.id for model in client().models.list()]
        self.assertTrue({OFFLINE, "mock-chat"} <= set(ids), ids)

    def test_a_key_in_a_header_of_its_own_is_taken(self):
        headers = {"Authorization": anthropic.Omit(), "X-Api-Key": KEY}
        answer = ask(OFFLINE, key="unused", extra_headers=headers)
        self.assertTrue(answer.content)


class Streams(unittest.TestCase):
    def stream(self, model, **more):
        with client().messages.stream(model=model, max_tokens=256, messages=say("Hi"), **more) as stream:
            words = list(stream.text_stream)
            return words, stream.get_final_message()

    def test_words_come_in_order(self):
        for model in ("mock-chat", "mock-bare"):
            with self.subTest(model):
                words, answer = self.stream(model)
                self.assertEqual("".join(words), "Hello from the upstream!")
                self.assertEqual((answer.content[0].text, answer.stop_reason), ("".join(words), "end_turn"))
                self.assertGreater(answer.usage.input_tokens, 0)

    def test_the_offline_model_streams(self):
        words, answer = self.stream(OFFLINE)
        self.assertEqual("".join(words), answer.content[0].text)

    def test_a_failure_in_mid_stream_is_an_error(self):
        for model in ("cut-anthropic-py/mock-cut", "cut-anthropic-py/mock-early-end", "cut-anthropic-py/mock-error-frame"):
            with self.subTest(model), self.assertRaises(anthropic.APIStatusError) as raised:
                self.stream(model)
            self.assertEqual(raised.exception.body["error"]["type"], "api_error")


class Tools(unittest.TestCase):
    QUESTION = "What is the weather in Oslo?"

    def round_trip(self, model, first):
        call = first.content[-1]
        self.assertEqual((first.stop_reason, call.type, call.name), ("tool_use", "tool_use", "get_weather"))
        self.assertEqual(call.input, {"city": "Oslo"})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "7 degrees and rain"}
        messages = [
            *say(self.QUESTION),
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        answer = client().messages.create(model=model, max_tokens=256, messages=messages, tools=[WEATHER])
        self.assertIn("7 degrees and rain", answer.content[0].text)

    def test_plain(self):
        for model in ("mock-tools", OFFLINE):
            with self.subTest(model):
                self.round_trip(model, ask(model, self.QUESTION, tools=[WEATHER]))

    def test_streamed(self):
        for model in ("mock-tools", OFFLINE):
            with self.subTest(model):
                more = {"model": model, "max_tokens": 256, "messages": say(self.QUESTION), "tools": [WEATHER]}
                with client().messages.stream(**more) as stream:
                    self.round_trip(model, stream.get_final_message())


class Errors(unittest.TestCase):
    def check(self, expected, status, kind, call):
        with self.assertRaises(expected) as raised:
            call()
        error = raised.exception
        self.assertEqual((type(error), error.status_code), (expected, status))
        self.assertEqual((error.body["type"], error.body["error"]["type"]), ("error", kind))
        self.assertTrue(error.request_id)
        self.assertNotIn("upstream-secret", str(error))
        return error

    def test_the_hub_s_own(self):
        self.check(anthropic.AuthenticationError, 401, "authentication_error", lambda: ask(OFFLINE, key="nh_wrong"))
        for stream in (False, True):
            unknown = lambda: ask("no/such-model", stream=stream)
            self.check(anthropic.NotFoundError, 404, "not_found_error", unknown)
        empty = lambda: client().messages.create(model=OFFLINE, max_tokens=256, messages=[])
        self.check(anthropic.BadRequestError, 400, "invalid_request_error", empty)

    def test_the_upstream_s(self):
        self.check(anthropic.BadRequestError, 400, "invalid_request_error", lambda: ask("mock-error-400"))
        limited = self.check(anthropic.RateLimitError, 429, "rate_limit_error", lambda: ask("mock-error-429"))
        self.assertEqual(limited.response.headers["retry-after"], "7")
        # Our credential was refused, not the client's.
        self.check(anthropic.InternalServerError, 502, "api_error", lambda: ask("mock-error-401"))


if __name__ == "__main__":
    unittest.main()
