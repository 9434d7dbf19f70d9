"""The fixed structures of a shard file; FORMAT.md says the same in prose and is the authority."""

import struct
from dataclasses import dataclass
from typing import Any

import crc32c as _crc32c
import numpy as np

MAGIC = b"BLXSHARD"
END_MAGIC = b"BLXSHEND"
MAJOR, MINOR = 1, 0
ALIGNMENT = 64
CRC_BLOCK_BYTES = 1 << 20
HEAP_BLOCK_BYTES = 1 << 20

HEADER = struct.Struct("<8sHHI16s28xI")
"""magic, major, minor, flags, dataset uuid, zeros, crc32c of the 60 bytes before."""
TRAILER = struct.Struct("<QI8s")
"""length of the footer JSON, its crc32c, end magic; the last 20 bytes of the file."""
BLOCK = np.dtype(
    [("first_row", "<u8"), ("offset", "<u8"), ("size", "<u8"), ("crc32c", "<u4"), ("codec", "<u4")]
)
"""One heap block: its first row, its start in the heap, its bytes, their checksum, and codec 0 (none)."""


@dataclass(frozen=True, slots=True)
class Section:
    """A run of bytes in the file that holds one array, with a checksum for each `CRC_BLOCK_BYTES` of it."""

    role: str
    column: str | None
    offset: int
    size: int
    crc32c: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the section as the footer stores it."""
        return {
            "role": self.role,
            "column": self.column,
            "offset": self.offset,
            "size": self.size,
            "crc32c": list(self.crc32c),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Section":
        """Read a section from the footer."""
        return cls(
            stored["role"], stored["column"], stored["offset"], stored["size"], tuple(stored["crc32c"])
        )


def crc32c(data: Any) -> int:
    """Return the CRC-32C (Castagnoli) of a bytes-like object."""
    return _crc32c.crc32c(data)


def block_crcs(data: memoryview) -> tuple[int, ...]:
    """Return the checksum of each `CRC_BLOCK_BYTES` of the data; the last block may be shorter."""
    return tuple(
        crc32c(data[start : start + CRC_BLOCK_BYTES]) for start in range(0, len(data), CRC_BLOCK_BYTES)
    )


def padding(position: int) -> int:
    """Return how many zero bytes bring the position to the next multiple of `ALIGNMENT`."""
    return -position % ALIGNMENT
