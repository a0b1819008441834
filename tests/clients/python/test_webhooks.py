"""The library of Standard Webhooks, unmodified, against what a hub sends.

scripts/test-clients starts the hub, which may reach this machine, and sets
HUB_URL and HUB_KEY.
"""

import json
import os
import queue
import threading
import unittest
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

URL = os.environ["HUB_URL"]
KEY = os.environ["HUB_KEY"]


def post(path, body):
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        self.told = queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.put((dict(self.headers.items()), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Deliveries(unittest.TestCase):
    def test_the_library_takes_them_for_real_also_while_a_secret_is_changed(self):
        old = post("/v1/webhooks/secret/rotate", {})["secret"]
        new = post("/v1/webhooks/secret/rotate", {})["secret"]
        receiver = Receiver()
        self.addCleanup(receiver.server_close)
        self.addCleanup(receiver.shutdown)
        hook = f"http://127.0.0.1:{receiver.server_port}/hook"
        run = post("/v1/run", {"target": "calculate", "type": "tool", "input": {"expression": "6 * 7"},
                               "metadata": {"name": "Zo\u00eb \u2603"}, "webhook_url": hook})
        headers, body = receiver.told.get(timeout=20)
        for secret in (old, new):
            event = Webhook(secret).verify(body, headers)
            self.assertEqual((event["type"], event["data"]["runId"]), ("run.succeeded", run["runId"]))
            self.assertEqual(event["data"]["result"], run["result"])
        with self.assertRaises(WebhookVerificationError):
            Webhook(new).verify(body.replace(b"succeeded", b"cancelled"), headers)
        with self.assertRaises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 43 + "=").verify(body, headers)


if __name__ == "__main__":
    unittest.main()
