"""A tiny OpenAI-compatible server on the standard library: it streams your words back to you."""

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Parrot(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer({"status": "ok"})
        elif self.path == "/v1/models":
            self.answer({"object": "list", "data": [{"id": "parrot", "object": "model"}]})
        else:
            self.answer({"error": {"message": f"There is nothing at {self.path}."}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = self.path.endswith("chat/completions")
        words = (body["messages"][-1]["content"] if chat else body["prompt"]).split()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in ["You", " said:", *(f" {word}" for word in words)]:
            choice = {"delta": {"content": piece}} if chat else {"text": piece}
            self.event({"choices": [{**choice, "index": 0, "finish_reason": None}]})
            time.sleep(0.02)
        self.event({"choices": [{"delta": {}, "text": "", "index": 0, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")
        print(f"answered {len(words)} words", flush=True)

    def event(self, value: dict) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def answer(self, value: dict, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


print(f"parrot listens on {os.environ['PORT']}", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Parrot).serve_forever()
