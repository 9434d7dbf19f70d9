"""The ceiling: HTTP and nothing else. `python -m benchmarks.serve._bare_models uvicorn|httptools PORT`.

Both answer every request with the echo's answer, in the process that read it: no worker, no queue, no batch.
"""

import asyncio
import json
import sys
from typing import Any

import httptools
import uvicorn
import uvloop


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The least that ASGI can do."""
    if scope["type"] != "http":
        return
    body = (await receive())["body"]
    data = json.dumps({"output": json.loads(body)["input"]} if body else {}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


class Bare(asyncio.Protocol):
    """The least that Python can do with HTTP."""

    def connection_made(self, transport: Any) -> None:
        self._write = transport.write
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body = body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        data = json.dumps({"output": json.loads(body)["input"]} if body else {}).encode()
        self._write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(data), data)
        )


async def _httptools(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "uvicorn":
        uvicorn.run(app, port=int(sys.argv[2]), loop="uvloop", http="httptools", log_level="error")
    else:
        uvloop.run(_httptools(int(sys.argv[2])))
