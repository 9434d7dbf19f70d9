"""The frame between the front and a worker: many small messages, one system call.

    u32 size | u32 n | u32 busy_us | ids u32[n] | lengths u32[n] | kinds u8[n] | payloads

Little-endian; `size` counts the bytes after itself. `busy_us` is the time a worker spent computing since
its last frame (0 from the front). Payloads travel untouched: nothing is pickled, the worker decodes the
bytes the client sent and the front sends on the bytes the worker made.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple


class Kind(IntEnum):
    """What a message means."""

    # front -> worker
    REQUEST = 1  # the request's body
    CANCEL = 2  # nobody waits for the answer any more
    PAUSE = 3  # the reader of this stream is behind
    RESUME = 4  # ... and has caught up
    # worker -> front; every REQUEST is ended by exactly one OK, RAW, END or ERROR
    OK = 16  # a whole answer, JSON
    RAW = 17  # a whole answer, bytes as they are
    CHUNK = 18  # one piece of a stream, JSON
    END = 19  # the stream is over (also the answer to CANCEL)
    ERROR = 20  # JSON of `errors.Failure`
    READY = 32  # set-up is done (id 0)
    FAILED = 33  # set-up failed; the payload says why (id 0)


FINAL = frozenset({Kind.OK, Kind.RAW, Kind.END, Kind.ERROR})


class Message(NamedTuple):
    """One message of a frame."""

    id: int
    kind: int
    payload: bytes


class Frame(NamedTuple):
    """What one `read` of a peer produced, in its order."""

    busy_us: int
    messages: list[Message]


_HEAD = struct.Struct("<III")
MAX_MESSAGES = 65_535
MAX_FRAME_BYTES = 2**32 - 1


class WireError(ValueError):
    """The bytes of a peer are not a frame."""


@lru_cache(maxsize=1024)
def _columns(n: int) -> struct.Struct:
    return struct.Struct(f"<{n}I{n}I{n}B")


def encode(messages: Sequence[tuple[int, int, bytes]], busy_us: int = 0) -> bytes:
    """Pack messages `(id, kind, payload)` into one frame."""
    n = len(messages)
    if n > MAX_MESSAGES:
        raise WireError(f"{n} messages in a frame, at most {MAX_MESSAGES} fit: send several frames")
    ids = [message[0] for message in messages]
    kinds = [message[1] for message in messages]
    payloads = [message[2] for message in messages]
    lengths = [len(payload) for payload in payloads]
    columns = _columns(n)
    size = 8 + columns.size + sum(lengths)
    if size > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {size} bytes, at most {MAX_FRAME_BYTES} fit: send several frames")
    head = _HEAD.pack(size, n, min(busy_us, 2**32 - 1))
    return b"".join((head, columns.pack(*ids, *lengths, *kinds), *payloads))


def decode(body: bytes) -> Frame:
    """Unpack one frame, given without its leading `size`."""
    if len(body) < 8:
        raise WireError(f"a frame of {len(body)} bytes is shorter than its header")
    n, busy_us = struct.unpack_from("<II", body)
    columns = _columns(n) if n <= MAX_MESSAGES else None
    if columns is None or len(body) < 8 + columns.size:
        raise WireError(f"a frame of {len(body)} bytes cannot hold {n} messages")
    table = columns.unpack_from(body, 8)
    messages: list[Message] = []
    offset = 8 + columns.size
    for i in range(n):
        end = offset + table[n + i]
        messages.append(Message(table[i], table[2 * n + i], body[offset:end]))
        offset = end
    if offset != len(body):
        raise WireError(f"the messages of a frame end at byte {offset} of {len(body)}")
    return Frame(busy_us, messages)


class FrameReader:
    """Cuts a byte stream, however chunked, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream and return the frames they complete."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start = 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "little")
            if len(buffer) < end:
                break
            frames.append(decode(bytes(buffer[start + 4 : end])))
            start = end
        if start:
            del buffer[:start]
        return frames
