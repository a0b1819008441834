"""OpenAI's unmodified Python SDK and the hub's Responses API.

scripts/test-clients starts the hub and the mock upstream and sets HUB_URL and
HUB_KEY.
"""

import json
import os
import unittest

import openai
from openai.types.responses import Response
from pydantic import BaseModel

OFFLINE = "neuralhub/offline"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city's name"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
QUESTION = {"role": "user", "content": "What is the weather in Oslo?"}

responses = openai.OpenAI(
    base_url=f"{os.environ['HUB_URL']}/v1", api_key=os.environ["HUB_KEY"], max_retries=0, timeout=30
).responses


class Said(BaseModel):
    answer: str


class Whole(unittest.TestCase):
    def test_a_text(self):
        response = responses.create(model="mock-chat", instructions="Be brief.", input="Hi", metadata={"a": "b"})
        # The SDK itself does not look whether anything is missing.
        Response.model_validate(response.to_dict())
        self.assertEqual(response.output_text, "Hello from the upstream!")
        self.assertEqual((response.status, response.metadata), ("completed", {"a": "b"}))
        self.assertEqual(response.usage.total_tokens, 12)

    def test_parts_and_earlier_turns(self):
        turns = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Who are you?"},
        ]
        response = responses.create(model=OFFLINE, input=turns, store=True)
        self.assertIn("not a language model", response.output_text)

    def test_parsed(self):
        response = responses.parse(model=OFFLINE, input="Who are you?", text_format=Said)
        self.assertIn("not a language model", response.output_parsed.answer)


class Streams(unittest.TestCase):
    def test_a_text(self):
        for model in ("mock-chat", "mock-bare", OFFLINE):
            with self.subTest(model), responses.stream(model=model, input="Hi") as stream:
                events = list(stream)
                final = stream.get_final_response()
                self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
                words = [event.delta for event in events if event.type == "response.output_text.delta"]
                self.assertTrue(words)
                self.assertEqual("".join(words), final.output_text)
                self.assertGreater(final.usage.total_tokens, 0)
                Response.model_validate(events[0].response.to_dict())

    def test_parsed(self):
        with responses.stream(model=OFFLINE, input="Who are you?", text_format=Said) as stream:
            self.assertIn("not a language model", stream.get_final_response().output_parsed.answer)

    def test_a_failure_in_mid_stream_is_an_event(self):
        for model in ("cut-responses-py/mock-cut", "cut-responses-py/mock-early-end", "cut-responses-py/mock-error-frame"):
            with self.subTest(model):
                *_, last = responses.create(model=model, input="Hi", stream=True)
                self.assertEqual((last.type, last.response.status), ("response.failed", "failed"))
                self.assertEqual(last.response.error.code, "server_error")


class Tools(unittest.TestCase):
    def round_trip(self, model, first):
        (call,) = [item for item in first.output if item.type == "function_call"]
        self.assertEqual((call.name, json.loads(call.arguments)["city"]), ("get_weather", "Oslo"))
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "7 degrees and rain"}
        items = [QUESTION, *(item.to_dict() for item in first.output), output]
        second = responses.create(model=model, input=items, tools=[WEATHER])
        self.assertIn("7 degrees and rain", second.output_text)

    def test_plain(self):
        for model in ("mock-tools", OFFLINE):
            with self.subTest(model):
                self.round_trip(model, responses.create(model=model, input=[QUESTION], tools=[WEATHER]))

    def test_streamed(self):
        for model in ("mock-tools", OFFLINE):
            with self.subTest(model):
                with responses.stream(model=model, input=[QUESTION], tools=[WEATHER]) as stream:
                    first = stream.get_final_response()
                self.assertEqual(first.output[-1].parsed_arguments, {"city": "Oslo"})
                self.round_trip(model, first)


class Errors(unittest.TestCase):
    def check(self, expected, param, **more):
        for stream in (False, True):
            with self.subTest(param=param, stream=stream), self.assertRaises(expected) as raised:
                responses.create(**{"model": OFFLINE, "input": "Hi", "stream": stream, **more})
            self.assertEqual(raised.exception.param, param)

    def test_what_the_hub_does_not_keep(self):
        self.check(openai.BadRequestError, "previous_response_id", previous_response_id="resp_1")
        self.check(openai.BadRequestError, "background", background=True)
        self.check(openai.BadRequestError, "tools[0].type", tools=[{"type": "web_search"}])

    def test_others(self):
        self.check(openai.NotFoundError, "model", model="no/such-model")
        self.check(openai.RateLimitError, None, model="mock-error-429")
        self.check(openai.InternalServerError, None, model="broken/mock-error-500")


if __name__ == "__main__":
    unittest.main()
