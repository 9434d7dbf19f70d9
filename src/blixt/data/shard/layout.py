"""The fixed structures of a shard file; FORMAT.md says the same in prose and is the authority."""

import struct
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import crc32c as _crc32c
import numpy as np

MAGIC = b"BLXSHARD"
END_MAGIC = b"BLXSHEND"
MAJOR, MINOR = 1, 0
ALIGNMENT = 64
BLOCK_BYTES = 1 << 17
"""About how many bytes a block holds: the grain of checksums and remote reads."""
PACKED_BLOCK_BYTES = 1 << 20
"""The same where blocks are compressed or encrypted, which pays off only for more bytes at once."""
HEAP_BLOCK_BYTES = 1 << 15
"""The same for rows of variable columns: smaller, since a shuffled batch touches a block for each row."""
PACKED_HEAP_BLOCK_BYTES = 1 << 18
"""The same of packed blocks."""
TAIL_BYTES = 1 << 17
"""The end of a file, read first: most footers and tables are in it."""

PLAIN, ZSTD, SEALED = 0, 1, 2
"""How a block is stored: as it is, or the sum of what was done to it (zstd first, then AES-GCM)."""
CODECS = frozenset((PLAIN, ZSTD, SEALED, ZSTD + SEALED))
ALWAYS_ALLOWED_BYTES = 16 << 20
MAX_RATIO = 256
"""A block larger than `ALWAYS_ALLOWED_BYTES` must be stored in at least a `MAX_RATIO`-th of its size."""

HEADER = struct.Struct("<8sHHI16s28xI")
"""magic, major, minor, flags, dataset uuid, zeros, crc32c of the 60 bytes before."""
TRAILER = struct.Struct("<QI8s")
"""length of the footer JSON, its crc32c, end magic; the last 20 bytes of the file."""
HEAP_BLOCK = np.dtype(
    [("first_row", "<u8"), ("raw", "<u8"), ("size", "<u8"), ("crc32c", "<u4"), ("codec", "<u4")]
)
"""One heap block: its first row, its raw bytes, its stored bytes and their checksum, and how it is stored."""


def crc32c(data: Any) -> int:
    """Return the CRC-32C (Castagnoli) of a bytes-like object."""
    return _crc32c.crc32c(data)


def crc32c_short(data: Any) -> int:
    """Return the CRC-32C of a short part, with the interpreter lock kept as `crc32cs` does."""
    return _crc32c.crc32c(data, 0, 0)


def crc32cs(parts: Iterable[memoryview]) -> list[int]:
    """Return the CRC-32C of each of many short parts.

    The interpreter lock is kept: to let go of it and fight for it again takes longer than a block of some
    ten KiB.
    """
    return list(map(_crc32c.crc32c, parts, repeat(0), repeat(0)))


def padding(position: int) -> int:
    """Return how many zero bytes bring the position to the next multiple of `ALIGNMENT`."""
    return -position % ALIGNMENT


def grain(row_bytes: int, packed: bool) -> int:
    """Return the bytes of a block of a section with rows of this size: whole rows, about `BLOCK_BYTES`."""
    about = PACKED_BLOCK_BYTES if packed else BLOCK_BYTES
    return max(about // row_bytes, 1) * row_bytes if row_bytes else about


def is_bomb(raw_size: int, stored_size: int) -> bool:
    """Whether a block claims to unpack to more than the format allows for its stored size."""
    return raw_size > ALWAYS_ALLOWED_BYTES and raw_size > MAX_RATIO * stored_size
