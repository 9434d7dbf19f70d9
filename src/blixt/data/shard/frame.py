"""The frame of a shard: header, trailer and footer, checked before anything in them is believed."""

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from uuid import UUID

from blixt.data.errors import CorruptionError, FormatError
from blixt.data.schema import Schema
from blixt.data.shard.file import ShardFile
from blixt.data.shard.layout import (
    CODECS,
    END_MAGIC,
    HEADER,
    MAGIC,
    MAJOR,
    PLAIN,
    TAIL_BYTES,
    TRAILER,
    crc32c,
    is_bomb,
)

_CUT_SHORT = "restore it from a copy or build it again"
_MAX_FOOTER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Section:
    """One array of the file in blocks.

    Attributes:
        number: its place in the footer, which is part of each encrypted block's nonce.
        raw: where each block begins in the unpacked array, and its end.
        stored: where each block begins in the file, and the end of the last.
        crcs: the checksum of each block as stored.
        codecs: how each block is stored; None when all are plain.
    """

    number: int
    role: str
    column: str | None
    offset: int
    size: int
    raw: list[int]
    stored: list[int]
    crcs: list[int]
    codecs: list[int] | None
    block_bytes: int

    @property
    def what(self) -> str:
        """Name the section in messages."""
        return self.role if self.column is None else f"{self.role} of {self.column!r}"

    @property
    def raw_size(self) -> int:
        """The bytes of the unpacked array."""
        return self.raw[-1]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a footer says, checked."""

    crc: int
    start: int
    dataset_id: UUID
    rows: int
    schema: Schema
    sections: dict[tuple[str, str | None], Section]
    encryption: dict[str, Any] | None
    stats: dict[str, Any]
    meta: dict[str, Any]
    writer: str


def read_frame(file: ShardFile) -> Frame:
    """Read the footer of a file.

    Raises:
        FormatError: when the file is no shard, was cut short, or says things that cannot be.
        CorruptionError: when the footer does not match its checksum.
    """
    crc, start, raw = _read_footer(file)
    try:
        return _parse(crc, start, json.loads(raw))
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as problem:
        raise FormatError(
            f"shard {file.name}: its footer makes no sense ({type(problem).__name__}: {problem}); "
            f"{_CUT_SHORT}"
        ) from None


def check_header(file: ShardFile) -> UUID:
    """Check the first 64 bytes and return the dataset's id.

    Raises:
        FormatError: when the file is no shard of a version this reader knows.
        CorruptionError: when the header does not match its checksum.
    """
    file.ensure([(0, min(HEADER.size, file.size))])
    data = file.view[: HEADER.size]
    if len(data) < HEADER.size or bytes(data[: len(MAGIC)]) != MAGIC:
        raise FormatError(f"{file.name} is not a blixt shard: it does not start with {MAGIC.decode()}")
    _, major, _, flags, dataset_id, crc = HEADER.unpack(data)
    if crc32c(data[:-4]) != crc:
        raise CorruptionError(
            f"shard {file.name}: the header is damaged, bytes 0 to {HEADER.size}; {_CUT_SHORT}"
        )
    _check_version(file.name, major)
    if flags:
        raise FormatError(
            f"shard {file.name} has flags {flags:#x}, which this blixt does not know; upgrade blixt"
        )
    return UUID(bytes=dataset_id)


def _read_footer(file: ShardFile) -> tuple[int, int, bytes]:
    end = file.size - TRAILER.size
    if end < HEADER.size:
        raise FormatError(
            f"{file.name} is not a blixt shard or was cut short: it has {file.size} bytes; {_CUT_SHORT}"
        )
    tail = max(0, file.size - TAIL_BYTES)
    file.ensure([(tail, file.size)])
    length, crc, magic = TRAILER.unpack(file.view[end:])
    start = end - length
    if magic != END_MAGIC or start < HEADER.size or length > _MAX_FOOTER_BYTES:
        raise FormatError(
            f"shard {file.name} was cut short or is damaged at its end: the end mark is missing; {_CUT_SHORT}"
        )
    if start < tail:
        file.ensure([(start, end)])
    footer = bytes(file.view[start:end])
    if crc32c(footer) != crc and file.refetch(start, file.size):
        footer = bytes(file.view[start:end])
    if crc32c(footer) != crc:
        raise CorruptionError(
            f"shard {file.name}: the footer is damaged, bytes {start} to {end}; {_CUT_SHORT}"
        )
    return crc, start, footer


def _parse(crc: int, start: int, footer: dict[str, Any]) -> Frame:
    _check_version("", footer["format_version"][0])
    sections = [_section(number, stored, start) for number, stored in enumerate(footer["sections"])]
    by_name = {(section.role, section.column): section for section in sections}
    if len(by_name) != len(sections):
        raise ValueError("two sections have the same name")
    return Frame(
        crc,
        start,
        UUID(footer["dataset_id"]),
        count(footer["rows"]),
        Schema.from_json(footer),
        by_name,
        footer.get("encryption"),
        dict(footer.get("stats", {})),
        dict(footer.get("meta", {})),
        str(footer.get("writer", "")),
    )


def _section(number: int, stored: dict[str, Any], limit: int) -> Section:
    offset, size = count(stored["offset"]), count(stored["size"])
    if offset < HEADER.size or offset + size > limit:
        raise ValueError(f"section {number} lies outside of the file")
    raw_size, block_bytes = count(stored.get("raw_size", size)), max(count(stored["block_bytes"]), 1)
    crcs = [count(crc) for crc in stored["crc32c"]]
    codecs: list[int] | None = stored.get("codecs")
    if len(crcs) != (0 if stored["role"] == "heap" else -(-raw_size // block_bytes)):
        raise ValueError(f"section {number} has {len(crcs)} checksums for {raw_size} bytes")
    raw = [*range(0, raw_size, block_bytes), raw_size] if crcs else [0, raw_size]
    if codecs is None:
        if raw_size != size and stored["role"] != "heap":
            raise ValueError(f"section {number} has {size} bytes and not {raw_size}")
        starts = [offset + position for position in raw]
    else:
        sizes: list[int] = stored["sizes"]
        check_blocks(codecs, raw, sizes)
        starts = [*accumulate(sizes, initial=offset)]
        if len(sizes) != len(crcs) or starts[-1] != offset + size:
            raise ValueError(f"the blocks of section {number} do not fill it")
    name = stored.get("column")
    return Section(
        number,
        str(stored["role"]),
        None if name is None else str(name),
        offset,
        size,
        raw,
        starts,
        crcs,
        codecs,
        block_bytes,
    )


def check_blocks(codecs: list[int], raw: list[int], sizes: list[int]) -> None:
    """Refuse blocks that this version cannot read, or that claim to unpack to absurd sizes.

    Raises:
        ValueError: naming the block.
    """
    if not len(codecs) == len(sizes) == len(raw) - 1:
        raise ValueError("the table of blocks is not complete")
    for block, (codec, size) in enumerate(zip(codecs, sizes, strict=True)):
        raw_size = raw[block + 1] - raw[block]
        if codec not in CODECS:
            raise ValueError(
                f"block {block} has codec {codec}, which this blixt does not know; upgrade blixt"
            )
        if (codec == PLAIN and count(size) != raw_size) or is_bomb(raw_size, count(size)):
            raise ValueError(f"block {block} claims to unpack from {size} to {raw_size} bytes")


def count(value: Any) -> int:
    """Return a value that must be a whole number from 0 to 2**63 - 1.

    Raises:
        ValueError: when it is not.
    """
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def _check_version(name: str, major: int) -> None:
    if major != MAJOR:
        raise FormatError(
            f"shard {name} has format version {major}, this blixt reads version {MAJOR}; upgrade blixt"
        )
