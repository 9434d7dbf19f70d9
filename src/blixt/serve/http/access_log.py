"""The access log: a JSON line for every answer of an API, in whichever lane it was given.

Lines are gathered for a moment and written together: a busy server makes no system call for each.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from blixt.serve.errors import ConfigError

FLUSH_S = 0.2
FLUSH_LINES = 500
FLUSH_TRIES = 100
STDERR = "-"
CLIENT_LEFT = 499
"""The status that a log shows, and nobody gets, for an answer that nobody waited for."""


class Line(msgspec.Struct):
    """One answer.

    Args:
        time: When it was complete, in UTC.
        client: The client's address; "" on a unix socket.
        method: The request's; "WEBSOCKET" for a session, whose line comes when it ends.
        path: The route.
        status: The answer's status; 499 if the client left before it.
        ms: From the request's whole body, in the queue and at work, to the answer's last byte.
        id: The client's `X-Request-Id`, if it sent one.
    """

    time: str
    client: str
    method: str
    path: str
    status: int
    ms: float
    id: str = ""


class AccessLog:
    """Writes lines to a file that is opened for appending, so several fronts may share it.

    Args:
        target: A file's path, or "-" for standard error.

    Raises:
        ConfigError: The file cannot be opened.
    """

    def __init__(self, target: str) -> None:
        self._file = _open(target)
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._encode = msgspec.json.Encoder().encode

    def record(
        self,
        method: str,
        path: str,
        status: int,
        seconds: float,
        client: Sequence[object] | None,
        request_id: bytes | None = None,
    ) -> None:
        """Note an answer."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        host = str(client[0]) if client else ""
        name = request_id.decode("latin-1") if request_id else ""
        line = Line(now, host, method, path, status, round(seconds * 1000, 3), name)
        self._lines.append(self._encode(line) + b"\n")
        if len(self._lines) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what was gathered; a file system that is full loses lines, never answers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data, self._lines = b"".join(self._lines), []
        for _ in range(FLUSH_TRIES):
            if not data:
                return
            try:
                data = data[os.write(self._file, data) :]
            except OSError:
                return


def _open(target: str) -> int:
    if target == STDERR:
        if sys.__stderr__ is None:
            raise ConfigError("access_log='-' needs a standard error, which this process has not.")
        return sys.__stderr__.fileno()
    try:
        return os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"access_log={target!r} cannot be written: {error.strerror}.") from None
