"""A message's body, read piece by piece from a connection and never past its end."""

from typing import Protocol

from blixt.cloud.gateway.framing import ChunkedDecoder, Framing, Until


class BodyMalformedError(ValueError):
    """The bytes do not follow the body's framing."""


class BodyTruncatedError(EOFError):
    """The connection ended before the body did."""


class Source(Protocol):
    """Where body bytes come from: a connection whose surplus bytes can be put back."""

    def take(self) -> bytes:
        """What is there already, maybe nothing."""
        ...

    async def read(self) -> bytes:
        """What comes next, b"" at the end."""
        ...

    def unread(self, data: bytes) -> None:
        """Put bytes back in front."""
        ...


class Body:
    """The decoded body; `done` when its end was reached. Bytes after it stay in the source."""

    __slots__ = ("_decoder", "_framing", "_left", "_source", "done")

    def __init__(self, source: Source, framing: Framing) -> None:
        self._source = source
        self._framing = framing
        self._decoder = ChunkedDecoder() if framing is Until.CHUNKED else None
        self._left = framing if isinstance(framing, int) else 0
        self.done = framing == 0

    def take(self) -> bytes:
        """Return what can be decoded without waiting."""
        if self.done:
            return b""
        data = self._source.take()
        return self._decode(data) if data else b""

    async def read(self) -> bytes:
        """Return the next piece, or b"" when the body is done.

        Raises:
            BodyMalformedError: the framing is broken.
            BodyTruncatedError: the connection ended too early.
            ConnectionError: the connection broke.
        """
        while not self.done:
            data = await self._source.read()
            if data:
                piece = self._decode(data)
                if piece:
                    return piece
            elif self._framing is Until.CLOSED:
                self.done = True
            else:
                raise BodyTruncatedError("the connection ended inside the body")
        return b""

    def _decode(self, data: bytes) -> bytes:
        if self._framing is Until.CLOSED:
            return data
        if self._decoder is None:
            piece = data if len(data) <= self._left else data[: self._left]
            self._source.unread(data[len(piece) :])
            self._left -= len(piece)
            self.done = not self._left
            return piece
        try:
            piece, rest = self._decoder.feed(data)
        except ValueError as error:
            raise BodyMalformedError(str(error)) from error
        if self._decoder.done:
            self.done = True
            self._source.unread(rest)
        return piece


class ReplayBody:
    """A request body that can be sent again while no more than `limit` bytes of it were read."""

    __slots__ = ("_body", "_limit", "_seen", "_seen_bytes", "_sent", "replayable")

    def __init__(self, body: Body, limit: int) -> None:
        self._body = body
        self._limit = limit
        self._seen: list[bytes] = []
        self._seen_bytes = 0
        self._sent = 0
        self.replayable = True

    @property
    def complete(self) -> bool:
        """Whether the whole body was handed out, this time round."""
        return self._body.done and self._sent == len(self._seen)

    @property
    def received(self) -> bool:
        """Whether the whole body came from the client."""
        return self._body.done

    def rewind(self) -> None:
        """Begin again from the first byte; only while `replayable`."""
        self._sent = 0

    def take(self) -> bytes:
        """Return what is there without waiting."""
        again = self._again()
        fresh = self._keep(self._body.take())
        return again + fresh if again else fresh

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end; raises as `Body.read`."""
        return self._again() or self._keep(await self._body.read())

    def _again(self) -> bytes:
        if self._sent == len(self._seen):
            return b""
        data = b"".join(self._seen[self._sent :])
        self._sent = len(self._seen)
        return data

    def _keep(self, piece: bytes) -> bytes:
        if piece and self.replayable:
            self._seen_bytes += len(piece)
            if self._seen_bytes > self._limit:
                self.replayable = False
                self._seen.clear()
                self._sent = 0
            else:
                self._seen.append(piece)
                self._sent += 1
        return piece
