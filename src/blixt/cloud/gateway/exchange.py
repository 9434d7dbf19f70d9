"""One request's way through the gateway: admit, send, relay the answer.

The body goes up in a task of its own when it is not all there yet, so an upstream may answer early and both
directions may stream at once.
"""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from blixt.cloud.gateway.admission import Plan, Redirect, admit
from blixt.cloud.gateway.bodies import Body, BodyMalformedError, BodyTruncatedError, ReplayBody
from blixt.cloud.gateway.deadlines import Phase
from blixt.cloud.gateway.errors import BadRequest, BadUpstream, ClientGone, ExpectationFailed, UpstreamLost
from blixt.cloud.gateway.framing import LAST_CHUNK, Framing, Until, encode_chunk, response_framing
from blixt.cloud.gateway.headers import (
    is_idempotent,
    keeps_alive,
    request_bytes,
    response_bytes,
    wants_websocket,
)
from blixt.cloud.gateway.heads import RequestHead, ResponseHead
from blixt.cloud.gateway.routing import Target
from blixt.cloud.gateway.tunnel import tunnel
from blixt.cloud.gateway.upstream import DialError, Upstream, read_response_head

if TYPE_CHECKING:
    from blixt.cloud.gateway.connection import Connection

_log = logging.getLogger("blixt.gateway")


class Exchange:
    """One request and its response."""

    def __init__(self, connection: "Connection", head: RequestHead, framing: Framing, body: Body) -> None:
        self._connection = connection
        self._context = connection.context
        self._head = head
        self._framing = framing
        self._body = ReplayBody(body, connection.context.limits.replay_bytes)
        self._websocket = self._framing == 0 and wants_websocket(head)
        self._upload: asyncio.Task[None] | None = None
        self._continued = False

    async def run(self) -> bool:
        """Serve the request; tells whether the client's connection may be used again."""
        self._check_expectation()
        plan = await admit(self._context, self._head)
        if isinstance(plan, Redirect):
            return self._redirect(plan)
        if plan.lane is None:
            return await self._pass_on(plan)
        plan.lane.begin()
        try:
            return await self._pass_on(plan)
        finally:
            plan.lane.end()

    def _check_expectation(self) -> None:
        expect = self._head.index.get(b"expect")
        if expect is None or self._head.minor == 0:
            self._continued = True
        elif expect.lower() != b"100-continue":
            raise ExpectationFailed("The only expectation understood is 100-continue.")

    def _redirect(self, redirect: Redirect) -> bool:
        keep = self._body.received and keeps_alive(self._head) and not self._context.closing
        self._connection.channel.send(redirect.response(self._head, close=not keep))
        return keep

    async def _pass_on(self, plan: Plan) -> bool:
        """Try targets until one answers, then relay its answer."""
        tried: set[Target] = set()
        fresh = False
        deaths = 0
        while True:
            target = await plan.place.acquire(tried)
            try:
                upstream = await self._context.pool.acquire(target, fresh=fresh)
            except DialError as error:
                _log.info("%s did not take a connection: %s", plan.place.title, error)
                plan.place.suspect(target)
                plan.place.release(target)
                tried.add(target)
                continue
            except BaseException:
                plan.place.release(target)
                raise
            try:
                return await self._use(upstream, plan)
            except UpstreamLost:
                self._require_repeatable(plan, deaths)
                if upstream.reused:
                    fresh = True  # a kept connection that ended says nothing about the target itself
                else:
                    deaths += 1
                    plan.place.suspect(target)
                    tried.add(target)
            finally:
                plan.place.release(target)

    def _require_repeatable(self, plan: Plan, deaths: int) -> None:
        """Only what may be repeated, and only once: a request that kills replicas must not visit them all."""
        if deaths or not self._body.replayable or not is_idempotent(self._head.method):
            raise BadUpstream(
                f"{plan.place.title} ended the connection before it answered.",
                hint="It may or may not have acted on the request. Look at its logs before you repeat it.",
            )
        self._body.rewind()

    async def _use(self, upstream: Upstream, plan: Plan) -> bool:
        clean = False
        try:
            self._connection.deadlines.open(Phase.RESPONSE)
            await self._send(upstream, plan)
            head = await read_response_head(upstream, self._context.limits)
            self._connection.deadlines.shut(Phase.RESPONSE)
            if head.status == 101:
                await self._switch(upstream, head, plan)
                return False
            keep, clean = await self._relay(upstream, head, plan)
            return keep
        finally:
            await self._end_upload()
            if clean:
                self._context.pool.release(upstream)
            else:
                self._context.pool.discard(upstream)

    async def _send(self, upstream: Upstream, plan: Plan) -> None:
        head = request_bytes(
            self._head,
            plan.onward,
            self._framing,
            peer=self._connection.channel.peer,
            websocket=self._websocket,
            trusted=self._context.limits.trust_forwarded,
        )
        if self._framing == 0:
            first = b""
        else:
            try:
                first = self._encode(self._body.take())
            except BodyMalformedError as error:
                raise BadRequest(f"The request's body is broken: {error}.") from error
            if self._framing is Until.CHUNKED and self._body.complete:
                first += LAST_CHUNK
        with contextlib.suppress(ConnectionError):  # what the upstream may still have said is read next
            await upstream.write(head + first)
        if not self._body.complete:
            if not self._continued:
                self._continued = True
                self._connection.channel.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._upload = asyncio.get_running_loop().create_task(self._send_rest(upstream))

    def _encode(self, piece: bytes) -> bytes:
        return encode_chunk(piece) if self._framing is Until.CHUNKED else piece

    async def _send_rest(self, upstream: Upstream) -> None:
        deadlines = self._connection.deadlines
        while True:
            deadlines.open(Phase.BODY)
            try:
                piece = await self._body.read()
            except BodyMalformedError as error:
                return self._connection.interrupt(BadRequest(f"The request's body is broken: {error}."))
            except (BodyTruncatedError, ConnectionError):
                return self._connection.interrupt(ClientGone("the client left inside its body"))
            finally:
                deadlines.shut(Phase.BODY)
            try:
                if piece:
                    await upstream.write(self._encode(piece))
                if self._body.complete:
                    if self._framing is Until.CHUNKED:
                        await upstream.write(LAST_CHUNK)
                    return None
            except ConnectionError:
                return None  # the reader of the response finds out what it means

    async def _end_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None and not upload.done():
            upload.cancel()
            await asyncio.wait([upload])

    async def _relay(self, upstream: Upstream, head: ResponseHead, plan: Plan) -> tuple[bool, bool]:
        """Copy the answer to the client; tells whether each connection may be used again."""
        connection, channel = self._connection, self._connection.channel
        framing = response_framing(head, self._head.method)
        body = Body(upstream, framing)
        chunked = framing in (Until.CHUNKED, Until.CLOSED) and self._head.minor == 1
        delimited = isinstance(framing, int) or chunked
        keep = delimited and keeps_alive(self._head) and self._body.complete and not self._context.closing
        out = response_bytes(
            head,
            plan.onward,
            framing,
            minor=self._head.minor,
            close=not keep,
            bodiless=self._head.method == b"HEAD" or head.status in (204, 304),
        )
        try:
            piece = body.take()
        except BodyMalformedError as error:
            raise BadUpstream(f"The body of the workload's answer is broken: {error}.") from error
        try:
            while True:
                out += encode_chunk(piece) if chunked else piece
                if body.done and chunked:
                    out += LAST_CHUNK
                connection.answering = True
                channel.send(out)
                if channel.congested:
                    await connection.drain()
                if body.done:
                    break
                piece, out = await body.read(), b""
        except (BodyMalformedError, BodyTruncatedError, ConnectionError) as error:
            if not channel.lost:
                _log.warning("%s broke off inside its answer: %s", plan.place.title, error)
            raise ClientGone("the answer cannot be completed") from error
        uploaded = self._body.complete and (self._upload is None or self._upload.done())
        if not keep and not self._body.received:
            await self._end_upload()
            await connection.linger()
        return keep, uploaded and framing is not Until.CLOSED and keeps_alive(head)

    async def _switch(self, upstream: Upstream, head: ResponseHead, plan: Plan) -> None:
        if not self._websocket:
            raise BadUpstream("The workload switched protocols without being asked.")
        out = response_bytes(head, plan.onward, 0, minor=1, close=False, bodiless=True)
        self._connection.answering = True
        self._connection.channel.send(out)
        await tunnel(self._connection, upstream)
