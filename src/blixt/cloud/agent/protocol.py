"""The frames between server and agent, one binary WebSocket message each.

    byte 0      kind
    bytes 1-4   channel, big endian; 0 is the session itself
    the rest    payload: raw bytes, a JSON object, or a 32-bit number, by kind

OPEN    json    the server starts an operation on a new channel: {"op": name, ...}
DATA    bytes   the operation's bytes: stdin or stdout, a file's content, a socket's
ERR     bytes   stderr of an exec
CREDIT  u32     the receiver consumed so many bytes of DATA and ERR; the sender may send that many more
NOTE    json    a message beside the bytes: a terminal's new size, the session's state
EOF     -       the sender will send no more bytes
END     json    the operation is over: {"result": ...} or {"error": sentence, "code": code}
"""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from blixt.cloud.json_object import json_object

HEADER = struct.Struct(">BI")
NUMBER = struct.Struct(">I")
SESSION = 0
WINDOW_BYTES = 256 * 1024
CHUNK_BYTES = 32 * 1024
MAX_FRAME_BYTES = 1 << 20
VERSION = 1


class Kind(IntEnum):
    """What a frame's payload is."""

    OPEN = 1
    DATA = 2
    ERR = 3
    CREDIT = 4
    NOTE = 5
    EOF = 6
    END = 7


class ProtocolError(Exception):
    """The other side sent something that is not a frame."""


@dataclass(frozen=True)
class Frame:
    """One message on the wire."""

    kind: Kind
    channel: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as bytes."""
        return HEADER.pack(self.kind, self.channel) + self.payload

    def json(self) -> dict[str, Any]:
        """The payload as a JSON object.

        Raises:
            ProtocolError: The payload is none.
        """
        value = json_object(self.payload)
        if value is None:
            raise ProtocolError(f"A frame of kind {self.kind.name} must carry a JSON object.")
        return value

    def number(self) -> int:
        """The payload as a number.

        Raises:
            ProtocolError: The payload is none.
        """
        if len(self.payload) != NUMBER.size:
            raise ProtocolError(f"A frame of kind {self.kind.name} must carry {NUMBER.size} bytes.")
        return int(NUMBER.unpack(self.payload)[0])


def decode(message: bytes) -> Frame:
    """Parse one message.

    Raises:
        ProtocolError: The message is too short or its kind unknown.
    """
    if len(message) < HEADER.size:
        raise ProtocolError(f"A frame needs {HEADER.size} bytes at least, this one has {len(message)}.")
    kind, channel = HEADER.unpack_from(message)
    try:
        return Frame(Kind(kind), channel, message[HEADER.size :])
    except ValueError as error:
        raise ProtocolError(f"A frame's kind {kind} is unknown.") from error


def json_frame(kind: Kind, channel: int, value: dict[str, Any]) -> Frame:
    """A frame that carries a JSON object."""
    return Frame(kind, channel, json.dumps(value, separators=(",", ":")).encode())


def number_frame(kind: Kind, channel: int, value: int) -> Frame:
    """A frame that carries a number."""
    return Frame(kind, channel, NUMBER.pack(value))
