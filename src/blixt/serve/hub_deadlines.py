"""Who has waited too long? One timer for the server's deadline, one each for those with their own."""

import asyncio
from collections.abc import Callable

from blixt.serve.request import Request


class Deadlines:
    """Deadlines of the requests that have a client.

    Args:
        timeout_s: The server's; infinite means never.
        on_late: Called with a request whose deadline has passed, and which then is forgotten here.
    """

    def __init__(self, timeout_s: float, on_late: Callable[[Request], None]) -> None:
        self.timeout_s = timeout_s
        self._on_late = on_late
        self._loop = asyncio.get_running_loop()
        self._usual: dict[int, Request] = {}  # ordered by deadline
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, request: Request, now: float, timeout_s: float | None) -> None:
        """Begin: `timeout_s` seconds from now, at most (and by default) the server's."""
        if timeout_s is not None and timeout_s < self.timeout_s:
            request.deadline = now + timeout_s
            request.timer = self._loop.call_at(request.deadline, self._on_late, request)
            return
        request.deadline = now + self.timeout_s
        if self.timeout_s == float("inf"):
            return
        self._usual[request.id] = request
        if self._timer is None:
            self._timer = self._loop.call_at(request.deadline, self._check)

    def progressed(self, request: Request, now: float) -> None:
        """A stream has moved: its client waits anew."""
        if request.id in self._usual:
            request.deadline = now + self.timeout_s
            self._usual[request.id] = self._usual.pop(request.id)
        elif request.timer is not None:
            allowed_s = request.deadline - request.admitted_at + request.spent_s
            request.timer.cancel()
            request.timer = self._loop.call_later(allowed_s, self._on_late, request)

    def forget(self, request: Request) -> None:
        """The request needs no deadline any more."""
        self._usual.pop(request.id, None)
        if request.timer is not None:
            request.timer.cancel()
            request.timer = None

    def close(self) -> None:
        """Drop the common timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        now = self._loop.time()
        late: list[Request] = []
        for request in self._usual.values():
            if request.deadline > now:
                self._timer = self._loop.call_at(request.deadline, self._check)
                break
            late.append(request)
        for request in late:
            if self._usual.get(request.id) is request:  # else it went along with one before it
                self._on_late(request)
                self._usual.pop(request.id, None)
