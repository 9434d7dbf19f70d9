"""A worker's loop in a thread, and the test in the place of its front."""

import socket
import threading
from contextlib import contextmanager

import pytest

from blixt.serve.page import Page
from blixt.serve.plan import make_plan
from blixt.serve.wire import FrameReader, Kind, encode
from blixt.serve.worker.channel import Channel, FrontGone
from blixt.serve.worker.loops import run


class Front:
    """The front's end, played by the test."""

    def __init__(self, sock):
        self.sock = sock
        self.reader = FrameReader()
        self.messages = []

    def send(self, *messages):
        self.sock.sendall(encode(messages))

    def next(self):
        while not self.messages:
            data = self.sock.recv(1 << 16)
            assert data, "the worker closed its socket"
            for frame in self.reader.feed(data):
                self.messages += frame.messages
        id, kind, payload = self.messages.pop(0)
        return id, Kind(kind), payload

    def until(self, id, *kinds):
        """Everything of one request up to its message of one of these kinds."""
        got = []
        while not got or got[-1][0] not in kinds:
            other, kind, payload = self.next()
            if other == id:
                got.append((kind, payload))
        return got

    def ask(self, body, id=1, kind=Kind.REQUEST):
        """One request's final message."""
        self.send((id, kind, body))
        finals = (Kind.OK, Kind.RAW, Kind.END, Kind.ERROR, Kind.REPLY, Kind.PACKED, Kind.CLOSE)
        return self.until(id, *finals)[-1]


@contextmanager
def worker(api, loop=None, **plan):
    """Yields `(front, page)`; the loop must end when the front closes."""
    near, far = socket.socketpair()
    near.settimeout(60)
    page = Page.create()
    resolved = make_plan(api, **plan)

    def serve():
        if resolved.mode.name == "ASYNC":
            run(resolved, Channel(far, page))  # its loop returns
        else:
            with pytest.raises(FrontGone):
                run(resolved, Channel(far, page))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Front(near), page
    finally:
        near.close()
        thread.join(60)
        far.close()
        assert not thread.is_alive()
