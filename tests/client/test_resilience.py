"""What the SDK does when connections break: a scripted server breaks them at chosen places."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from blixt.client import Client, Job, ObjectData, ServerUnreachable, Unavailable
from blixt.client.logs import read_logs

Script = Callable[[BaseHTTPRequestHandler, int], None]


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], Client]]:
    """Serve every request by a function that gets the handler and the number of the request."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def serve(script: Script) -> Client:
        counter = iter(range(1_000_000))

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                script(self, next(counter))

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return Client(f"http://127.0.0.1:{server.server_address[1]}", "token", "main")

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, body: object, status: int = 200) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def break_off(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def test_a_read_is_repeated_while_the_server_restarts(scripted: Callable[[Script], Client]) -> None:
    def script(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number in (1, 2):
            answer(handler, {"error": {"message": "Starting.", "code": "unavailable"}}, 503)
        elif number == 3:
            break_off(handler)
        else:
            answer(handler, {"status": "ok"})

    client = scripted(script)
    assert client.health() == {"status": "ok"}
    assert client.health() == {"status": "ok"}


def test_a_server_that_stays_unavailable_is_reported(scripted: Callable[[Script], Client]) -> None:
    def script(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, {"error": {"message": "The disk is full.", "hint": "Free some space."}}, 507)

    with pytest.raises(Unavailable, match=r"The disk is full\. Free some space\."):
        scripted(script).health()


def test_a_write_that_may_have_happened_is_not_repeated(scripted: Callable[[Script], Client]) -> None:
    posts: list[str] = []

    def script(handler: BaseHTTPRequestHandler, number: int) -> None:
        if handler.command == "POST":
            posts.append(handler.path)
            break_off(handler)
        else:
            answer(handler, {"status": "ok"})

    client = scripted(script)
    client.health()
    with pytest.raises(ServerUnreachable, match="whether the request took effect"):
        client.create_object("experiments", "e", {})
    assert len(posts) == 1


def test_following_a_log_goes_on_at_the_right_offset_after_each_break(
    scripted: Callable[[Script], Client],
) -> None:
    text = "".join(f"line {number}\n" for number in range(40))

    def script(handler: BaseHTTPRequestHandler, number: int) -> None:
        since = int(parse_qs(urlsplit(handler.path).query)["since"][0])
        if number == 2:
            break_off(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        end = min(since + 70, len(text))
        for start in range(since, end, 10):
            piece = text[start : min(start + 10, end)]
            data = json.dumps({"rank": 0, "text": piece, "offset": start})
            handler.wfile.write(f": x\n\nevent: log\nid: {start + len(piece)}\ndata: {data}\n\n".encode())
        if end == len(text):
            handler.wfile.write(b'event: end\ndata: {"state": "succeeded"}\n\n')
        else:
            handler.wfile.write(b'event: log\nid: 999\ndata: {"rank": 0, "te')  # cut in the middle
        handler.close_connection = True

    client = scripted(script)
    pieces = list(read_logs(client, "/logs", follow=True))
    assert "".join(piece.text for piece in pieces) == text
    assert pieces[-1].offset == len(text)


def test_a_log_that_is_not_followed_stops_at_what_is_there(scripted: Callable[[Script], Client]) -> None:
    def script(handler: BaseHTTPRequestHandler, number: int) -> None:
        assert "follow=0" in handler.path
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'event: log\nid: 3\ndata: {"rank": 1, "text": "abc", "offset": 0}\n\n')
        handler.wfile.write(b'event: end\ndata: {"state": "running"}\n\n')

    job = Job(scripted(script), ObjectData("u", "job", "main", "j", 1, "me", 0.0, 0.0, False))
    assert [(piece.text, piece.offset, piece.rank) for piece in job.logs(rank=1)] == [("abc", 3, 1)]
