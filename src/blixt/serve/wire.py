"""The frame between a front and a worker: many small messages, one system call.

    u32 size | u32 n | u32 busy_us | ids u32[n] | lengths u32[n] | kinds u8[n] | payloads

Little-endian; `size` counts the bytes after itself. `busy_us` is the time a worker spent computing since
its last frame (0 from the front). Payloads travel untouched: nothing is pickled, the worker decodes the
bytes the client sent and the front sends on the bytes the worker made.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

Message = tuple[int, int, bytes]
"""`(id, kind, payload)`."""


class Kind(IntEnum):
    """What a message means."""

    # front -> worker
    REQUEST = 1  # the request's body
    CANCEL = 2  # nobody waits for the answer any more
    PAUSE = 3  # the reader of this stream is behind (also worker -> front, for a websocket's client)
    RESUME = 4  # ... and has caught up
    SLAB = 5  # a REQUEST whose body lies in shared memory: `<QQ` offset, length
    OPEN = 6  # a websocket session begins; JSON of what the client asked for
    META = 7  # JSON of `request.Meta` for the REQUEST, SLAB or OPEN that follows with the same id
    VALUE = 8  # a REQUEST whose body is a packed Python value, see `handoff`
    RESULT = 9  # what a worker's CALL came to: the kind of the answer as one byte, then its payload
    PASS = 10  # a VALUE whose answer is for a client: what a pipeline's stages are sent
    # both ways
    DATA = 12  # one websocket message: b"t" or b"b", then its data
    CLOSE = 13  # the websocket is over: `>H` code, then the reason in UTF-8
    # worker -> front; every request is ended by exactly one message of FINAL
    OK = 16  # a whole answer, JSON
    RAW = 17  # a whole answer, bytes as they are
    CHUNK = 18  # one piece of a stream, JSON
    END = 19  # the stream or session is over (also the answer to CANCEL)
    ERROR = 20  # JSON of `errors.Failure`
    REPLY = 21  # a whole answer with status and headers of its own, see `split_reply`
    CALL = 22  # the worker asks another API; its id is the worker's own count
    PACKED = 23  # a whole answer as a packed Python value, for the next stage or the caller
    READY = 32  # set-up is done (id 0)
    FAILED = 33  # set-up failed; the payload says why (id 0)


FINAL: frozenset[int] = frozenset(
    int(kind) for kind in (Kind.OK, Kind.RAW, Kind.END, Kind.ERROR, Kind.REPLY, Kind.PACKED, Kind.CLOSE)
)
"""The kinds, from a worker, after which nothing follows for that request."""


class Frame(NamedTuple):
    """What one `read` of a peer produced, in its order."""

    busy_us: int
    messages: list[Message]


_SIZE = struct.Struct("<I")
_HEAD = struct.Struct("<III")
_COUNTS = struct.Struct("<II")
MAX_MESSAGES = 65_535
MAX_FRAME_BYTES = 2**32 - 1


class WireError(ValueError):
    """The bytes of a peer are not a frame."""


@lru_cache(maxsize=1024)
def _columns(n: int) -> struct.Struct:
    return struct.Struct(f"<{n}I{n}I{n}B")


def encode(messages: Sequence[Message], busy_us: int = 0) -> bytes:
    """Pack messages `(id, kind, payload)` into one frame."""
    n = len(messages)
    if n > MAX_MESSAGES:
        raise WireError(f"{n} messages in a frame, at most {MAX_MESSAGES} fit: send several frames")
    ids, kinds, payloads = zip(*messages, strict=True) if n else ((), (), ())
    lengths = [len(payload) for payload in payloads]
    columns = _columns(n)
    size = 8 + columns.size + sum(lengths)
    if size > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {size} bytes, at most {MAX_FRAME_BYTES} fit: send several frames")
    head = _HEAD.pack(size, n, busy_us if busy_us < 2**32 else 2**32 - 1)
    return b"".join((head, columns.pack(*ids, *lengths, *kinds), *payloads))


def decode(body: bytes, start: int = 0, end: int | None = None) -> Frame:
    """Unpack one frame, given without its leading `size`.

    Args:
        body: Bytes that contain the frame.
        start: Where it begins in `body`.
        end: Where it ends; None means at the end of `body`.
    """
    end = len(body) if end is None else end
    if end - start < 8:
        raise WireError(f"a frame of {end - start} bytes is shorter than its header")
    n, busy_us = _COUNTS.unpack_from(body, start)
    columns = _columns(n) if n <= MAX_MESSAGES else None
    if columns is None or end - start < 8 + columns.size:
        raise WireError(f"a frame of {end - start} bytes cannot hold {n} messages")
    table = columns.unpack_from(body, start + 8)
    messages: list[Message] = []
    offset = start + 8 + columns.size
    for id, length, kind in zip(table[:n], table[n : 2 * n], table[2 * n :], strict=True):
        stop = offset + length
        messages.append((id, kind, body[offset:stop]))
        offset = stop
    if offset != end:
        raise WireError(f"the messages of a frame end at byte {offset - start} of {end - start}")
    return Frame(busy_us, messages)


class FrameReader:
    """Cuts a byte stream, however chunked, into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream and return the frames they complete."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < 4 or len(rest) < 4 + _SIZE.unpack_from(rest)[0]:
                return []
            data = bytes(rest)
            rest.clear()
        frames: list[Frame] = []
        start, size = 0, len(data)
        while size - start >= 4:
            end = start + 4 + _SIZE.unpack_from(data, start)[0]
            if size < end:
                break
            frames.append(decode(data, start + 4, end))
            start = end
        if start < size:
            rest += data[start:]
        return frames


def join_reply(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """The payload of REPLY: `u32 length | JSON [status, headers] | body`."""
    head = msgspec.json.encode((status, dict(headers)))
    return b"".join((_SIZE.pack(len(head)), head, body))


_reply_head = msgspec.json.Decoder(tuple[int, dict[str, str]])


def split_reply(payload: bytes) -> tuple[int, dict[str, str], bytes]:
    """A REPLY's status, headers and body."""
    start = 4 + _SIZE.unpack_from(payload)[0]
    status, headers = _reply_head.decode(payload[4:start])
    return status, headers, payload[start:]
