"""Where a message's body ends, and the two ways of writing one. Pure; the I/O is in `bodies`."""

from enum import Enum

from blixt.cloud.gateway.errors import BadRequest, BadUpstream, UnsupportedCoding
from blixt.cloud.gateway.heads import RequestHead, ResponseHead

_MAX_LINE = 4096
_MAX_TRAILER = 8192


class Until(Enum):
    """How the end of a body is told when it is not a length."""

    CHUNKED = "chunked"
    CLOSED = "closed"


Framing = int | Until
"""A body of so many bytes, or one that ends as `Until` says."""


def request_framing(head: RequestHead) -> Framing:
    """Decide the framing of a request's body.

    Raises:
        BadRequest: both Transfer-Encoding and Content-Length, a repeated or odd length, an unknown coding.
    """
    coding = head.index.get(b"transfer-encoding")
    length = head.index.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadRequest("The request has both Transfer-Encoding and Content-Length.")
        if head.minor == 0:
            raise BadRequest("An HTTP/1.0 request cannot have a Transfer-Encoding.")
        if coding.lower() != b"chunked":
            raise UnsupportedCoding("The only transfer coding understood is `chunked`, once.")
        return Until.CHUNKED
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:
        raise BadRequest("The Content-Length is not one plain decimal number.")
    return int(length)


def response_framing(head: ResponseHead, method: bytes) -> Framing:
    """Decide the framing of a response's body to a request with `method`.

    Raises:
        BadUpstream: contradictory or odd framing headers.
    """
    if method == b"HEAD" or head.status in (204, 304) or head.status < 200:
        return 0
    coding = head.index.get(b"transfer-encoding")
    length = head.index.get(b"content-length")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked" or head.minor == 0:
            raise BadUpstream("The workload's answer has a Transfer-Encoding that cannot be read in one way.")
        return Until.CHUNKED
    if length is None:
        return Until.CLOSED
    if not length.isdigit() or len(length) > 18:
        raise BadUpstream("The workload's answer has a Content-Length that is not one plain number.")
    return int(length)


def encode_chunk(piece: bytes) -> bytes:
    r"""One chunk of a chunked body; an empty piece writes nothing, since an empty chunk would end the body.

    >>> encode_chunk(b"hello")
    b'5\r\nhello\r\n'
    """
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


LAST_CHUNK = b"0\r\n\r\n"


class ChunkedDecoder:
    """Chunked bytes in, body bytes out; extensions and trailers are checked for size and dropped."""

    __slots__ = ("_line", "_need", "_trailer_bytes", "done")

    def __init__(self) -> None:
        self._line = bytearray()
        self._need = 0
        self._trailer_bytes = -1
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode as far as `data` goes.

        Returns:
            The body bytes, and what lies behind the end of the message (empty unless `done`).

        Raises:
            ValueError: the bytes are not a chunked body.
        """
        pieces: list[bytes] = []
        at = 0
        end = len(data)
        while at < end and not self.done:
            if self._need > 2:
                take = min(self._need - 2, end - at)
                pieces.append(data[at : at + take])
                self._need -= take
                at += take
            elif self._need:
                if data[at] != (0x0D if self._need == 2 else 0x0A):
                    raise ValueError("a chunk does not end with CR LF")
                self._need -= 1
                at += 1
            else:
                at = self._feed_line(data, at)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return body, data[at:] if self.done else b""

    def _feed_line(self, data: bytes, at: int) -> int:
        newline = data.find(b"\n", at)
        stop = len(data) if newline < 0 else newline + 1
        self._line += data[at:stop]
        if len(self._line) > _MAX_LINE:
            raise ValueError("a chunk's size line is too long")
        if newline >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                raise ValueError("a line in the chunked body does not end with CR LF")
            self._end_line(line[:-2])
        return stop

    def _end_line(self, line: bytes) -> None:
        if self._trailer_bytes >= 0:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _MAX_TRAILER:
                raise ValueError("the trailers are too long")
            self.done = not line
            return
        size = line.partition(b";")[0].rstrip(b" \t")
        if not size or len(size) > 15 or size.translate(None, b"0123456789abcdefABCDEF"):
            raise ValueError("a chunk's size is not a hexadecimal number")
        length = int(size, 16)
        if length:
            self._need = length + 2
        else:
            self._trailer_bytes = 0
