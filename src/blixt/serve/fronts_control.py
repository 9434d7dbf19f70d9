"""The line between the supervisor and a front: whole JSON messages, with file descriptors where need be."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

MAX_MESSAGE_BYTES = 64 * 2**10
MAX_DESCRIPTORS = 4
Message = dict[str, Any]
OnMessage = Callable[[Message, list[int]], None]


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a line that keeps messages whole and notices when the other end is gone."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Control:
    """One end of the line, on the event loop.

    Args:
        sock: An end of a `pair`.
        on_message: Called with every message and the descriptors that came with it, which it then owns.
        on_closed: Called once, when the other end is gone.
    """

    def __init__(self, sock: socket.socket, on_message: OnMessage, on_closed: Callable[[], None]) -> None:
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send a message; False if the other end is gone or has stopped reading."""
        try:
            socket.send_fds(self._sock, [msgspec.json.encode(message)], list(descriptors))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Hang up; closing twice is fine."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if data:
            self._on_message(msgspec.json.decode(data), list(descriptors))
        else:
            self.close()
            self._on_closed()
