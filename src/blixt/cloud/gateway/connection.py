"""The server side of one client connection: requests one after the other, and how it ends.

One task serves a connection. Whatever must stop it from outside (the client left, a deadline passed, the body
being uploaded is broken) goes through `interrupt`, which ends the current await with a reason.
"""

import asyncio
import logging

from blixt.cloud.gateway.bodies import Body
from blixt.cloud.gateway.channel import Channel
from blixt.cloud.gateway.context import Context
from blixt.cloud.gateway.deadlines import Deadlines, Phase, failure
from blixt.cloud.gateway.errors import (
    BadRequest,
    ClientGone,
    GatewayError,
    HeadTooLarge,
    ServerBusy,
    TargetTooLong,
)
from blixt.cloud.gateway.exchange import Exchange
from blixt.cloud.gateway.framing import request_framing
from blixt.cloud.gateway.headers import keeps_alive
from blixt.cloud.gateway.heads import RequestHead, parse_request
from blixt.cloud.gateway.replies import error_response

_log = logging.getLogger("blixt.gateway")
_LINGER_BYTES = 1 << 20
_STRAY_LINES = 4
_FIRST_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\r")


class Connection:
    """One client."""

    def __init__(self, context: Context, channel: Channel) -> None:
        self.context = context
        self.channel = channel
        self.deadlines = Deadlines(context.durations, context.clock)
        self.answering = False
        self.busy = False
        self._reason: Exception | None = None
        self._head: RequestHead | None = None
        channel.on_lost = self._lost
        channel.on_eof = self._half_closed
        context.connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def interrupt(self, reason: Exception) -> None:
        """Stop what the connection does now, for this reason; the first reason counts."""
        if self._reason is None and not self._task.done():
            self._reason = reason
            self._task.cancel()

    def check(self, now: float) -> None:
        """Act on a deadline that passed."""
        phase = self.deadlines.overdue(now)
        if phase is None:
            return
        self.deadlines.shut(phase)
        if self._task.done() or phase is Phase.LINGER:
            self.channel.abort()
        else:
            self.interrupt(failure(phase))

    def retire(self) -> None:
        """End an idle connection now and a busy one after its response."""
        if not self.busy:
            self.interrupt(ClientGone("the gateway stops"))

    async def wait_ended(self) -> None:
        """Wait until the connection is served to its end."""
        await asyncio.wait([self._task])

    def settle(self) -> None:
        """End all deadlines but that of a client which ended its side."""
        self.deadlines.clear()
        if self.channel.at_eof:
            self.deadlines.open(Phase.HALF_CLOSED)

    async def drain(self) -> None:
        """Wait until the client has read enough of what was sent to it."""
        self.deadlines.open(Phase.STALL)
        await self.channel.drain()
        self.deadlines.shut(Phase.STALL)

    async def _serve(self) -> None:
        try:
            if len(self.context.connections) > self.context.limits.connections:
                raise ServerBusy("This gateway has as many connections as it may have.")
            while await self._serve_request():
                self._head = None
            self._finish()
        except (ClientGone, ConnectionError):
            self.channel.reset()
        except GatewayError as error:
            await self._end_with(error)
        except asyncio.CancelledError:
            if self._reason is None:
                self.channel.abort()
                raise
            await self._end_interrupted(self._reason)
        except Exception:
            _log.exception("The gateway failed on a request")
            await self._end_with(
                GatewayError("The gateway failed on this request.", hint="See the server's log.")
            )

    async def _serve_request(self) -> bool:
        self.answering = self.busy = False
        raw = await self._read_head()
        if raw is None:
            return False
        limits = self.context.limits
        self._head = head = parse_request(raw, limits)
        framing = request_framing(head)
        body = Body(self.channel, framing)
        try:
            return await Exchange(self, head, framing, body).run()
        except GatewayError as error:
            reusable = body.done and keeps_alive(head) and not self.context.closing
            if self.answering or error.close or not reusable:
                raise
            self.channel.send(error_response(error, head, close=False))
            return True

    async def _read_head(self) -> bytes | None:
        limits = self.context.limits
        self.deadlines.open(Phase.IDLE)
        buffer = b""
        strays = 0
        while True:
            data = await self.channel.read()
            if not data:
                if buffer:
                    raise ClientGone("the client left inside its headers")
                return None
            if not buffer:
                self.deadlines.open(Phase.HEAD)
            buffer += data
            if buffer[0] == 0x0D:  # a stray CR LF between requests is tolerated, as HTTP advises
                buffer = buffer.removeprefix(b"\r\n")
                strays += 1
                if strays > _STRAY_LINES:
                    raise BadRequest("The request begins with empty lines.")
                if not buffer:
                    continue
            end = buffer.find(b"\r\n\r\n")
            if end < 0 or end > limits.head_bytes:
                _refuse_hopeless_head(buffer, limits.head_bytes, limits.target_bytes)
                continue
            self.busy = True
            self.settle()
            self.channel.unread(buffer[end + 4 :])
            return buffer[:end]

    def _finish(self) -> None:
        self.deadlines.clear()
        self.deadlines.open(Phase.LINGER)
        self.channel.finish()

    async def _end_interrupted(self, reason: Exception) -> None:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        if isinstance(reason, GatewayError):
            await self._end_with(reason)
        elif self.busy or self.channel.lost:
            self.channel.reset()
        else:
            self._finish()

    async def _end_with(self, error: GatewayError) -> None:
        if self.answering:
            self.channel.reset()
            return
        self.channel.send(error_response(error, self._head, close=True))
        await self.linger()

    async def linger(self) -> None:
        """End our side and read a little on, so that the client sees the answer before a reset."""
        self.deadlines.clear()
        self.deadlines.open(Phase.LINGER)
        try:
            await self.channel.write_eof()
            left = _LINGER_BYTES
            while left > 0 and (data := await self.channel.read()):
                left -= len(data)
        except (ConnectionError, asyncio.CancelledError):
            pass
        self.channel.finish()

    def _half_closed(self) -> None:
        if self.busy:
            self.deadlines.open(Phase.HALF_CLOSED)

    def _lost(self) -> None:
        self.context.connections.discard(self)
        self.interrupt(ClientGone("the client left"))


def _refuse_hopeless_head(buffer: bytes, head_bytes: int, target_bytes: int) -> None:
    if buffer[0] not in _FIRST_BYTES:
        raise BadRequest("These bytes do not begin an HTTP request; is the client speaking TLS?")
    if len(buffer) > target_bytes and buffer.find(b"\r\n", 0, target_bytes + 64) < 0:
        raise TargetTooLong(f"The request's first line has more than {target_bytes} bytes.")
    if len(buffer) > head_bytes:
        raise HeadTooLarge(f"The request's headers have more than {head_bytes} bytes.")
    if buffer.count(b"\n") != buffer.count(b"\r\n"):
        raise BadRequest("A line of the request's headers does not end with CR LF.")
