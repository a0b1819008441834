"""A small model provider that speaks OpenAI's protocol, good and bad.

The model's name says how it behaves. Prints its base URL on its first line.
Only Python's standard library.
"""

import base64
import json
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "Bearer upstream-secret"
MODELS = [
    "mock-chat",
    "mock-tools",
    "mock-bare",
    "mock-cut",
    "mock-early-end",
    "mock-error-frame",
    "mock-endless",
    "mock-embed",
    *(f"mock-error-{status}" for status in (400, 401, 402, 404, 429, 500, 503)),
]
WORDS = ["Hello", " from", " the", " upstream", "!"]
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            data = [{"id": name, "object": "model", "created": 1, "owned_by": "mock"} for name in MODELS]
            self.reply(200, {"object": "list", "data": data})
        elif self.path == "/state":
            self.reply(200, {"disconnects": self.server.disconnects})
        else:
            self.error(404, "no such path")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if self.headers.get("Authorization") != KEY:
            self.error(401, "wrong key")
        elif self.path == "/v1/embeddings":
            self.embeddings(body)
        elif self.path == "/v1/chat/completions":
            self.chat(body)
        else:
            self.error(404, "no such path")

    def chat(self, body):
        model = body["model"]
        if model.startswith("mock-error-") and model[11:].isdigit():
            self.error(int(model[11:]), f"the upstream says {model[11:]}")
        elif body.get("stream"):
            self.stream(model, body)
        elif model == "mock-tools":
            self.reply(200, completion(model, tool_message(body), body))
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            self.reply(200, completion(model, message, body))

    def stream(self, model, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.frames(model, body)
        except (BrokenPipeError, ConnectionResetError):
            self.server.disconnects += 1
            self.close_connection = True

    def frames(self, model, body):
        if model == "mock-endless":
            while True:
                self.frame(chunk(model, {"role": "assistant", "content": "more "}))
                time.sleep(0.02)
        self.write(": keep-alive\n\n")
        if model == "mock-tools":
            for delta in tool_deltas(body):
                self.frame(chunk(model, delta))
            self.frame(chunk(model, {}, "stop" if answered(body) else "tool_calls"))
        elif model == "mock-bare":
            # No id, no role, no index, no finish_reason.
            for word in WORDS:
                self.frame({"choices": [{"delta": {"content": word}}]})
        else:
            self.frame(chunk(model, {"role": "assistant", "content": ""}))
            for word in WORDS:
                self.frame(chunk(model, {"content": word}))
            if model == "mock-cut":
                self.connection.close()
                self.close_connection = True
                return
            if model == "mock-error-frame":
                self.frame({"error": {"message": "the upstream broke in mid-answer", "code": 502}})
            elif model != "mock-early-end":
                self.frame(chunk(model, {}, "stop"))
        if (body.get("stream_options") or {}).get("include_usage") and model != "mock-early-end":
            self.frame({**chunk(model, {}), "choices": [], "usage": USAGE})
        if model not in ("mock-early-end", "mock-error-frame"):
            self.write("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def embeddings(self, body):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        size = body.get("dimensions", 4)
        data = []
        for index, text in enumerate(texts):
            vector = [float(len(text)), 0.5, -1.0, 0.25][:size] + [0.0] * (size - 4)
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        self.reply(200, {"object": "list", "model": body["model"], "data": data, "usage": usage})

    def frame(self, value):
        self.write(f"data: {json.dumps(value)}\n\n")

    def write(self, text):
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def error(self, status, message):
        error = {"message": message, "type": "mock_error", "code": f"mock_{status}", "param": None}
        self.reply(status, {"error": error}, {"Retry-After": "7"} if status == 429 else {})

    def reply(self, status, value, headers=None):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


def completion(model, message, body):
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": USAGE,
        # What the hub passed on, for the test of unknown fields.
        "received": sorted(body),
    }


def chunk(model, delta, reason=None):
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


def answered(body):
    return body["messages"][-1]["role"] == "tool"


def tool_message(body):
    if answered(body):
        return {"role": "assistant", "content": f"The tool said: {body['messages'][-1]['content']}"}
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def tool_deltas(body):
    if answered(body):
        return [tool_message(body)]
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"city"', ': "Os', 'lo"}')]
    return [{"role": "assistant", "content": None, "tool_calls": [first]}, *({"tool_calls": [delta]} for delta in rest)]


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    server.disconnects = 0
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
