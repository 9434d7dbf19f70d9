"""A mapped shard file: its frame is verified when it is opened, each block when it is first touched."""

import json
import mmap
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from blixt.data.errors import CorruptionError, DataError, DatasetNotFoundError, FormatError
from blixt.data.shard.layout import END_MAGIC, HEADER, MAGIC, MAJOR, TRAILER, Section, crc32c, padding


class MappedFile:
    """The bytes of a shard file and the checksums that cover them.

    Raises:
        DatasetNotFoundError: when the file is not there.
        FormatError: when it is no shard, was cut short, or has a version this reader does not know.
        CorruptionError: when the header or the footer do not match their checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = _map_file(path)
        self.bytes = memoryview(self._map)
        self._array = np.frombuffer(self._map, np.uint8)
        self.dataset_id = _read_header(self.bytes, path)
        self.footer_crc, self.footer = _read_footer(self.bytes, path)
        self.sections = [Section.from_json(section) for section in self.footer["sections"]]

    def view(self, section: Section, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return a section as a mapped, read-only array."""
        return self._array[section.offset : section.offset + section.size].view(dtype)

    def compare(self, low: int, high: int, expected: int, what: str) -> None:
        """Check the bytes `[low, high)` against their checksum.

        Raises:
            CorruptionError: when they differ.
        """
        found = crc32c(self.bytes[low:high])
        if found != expected:
            raise CorruptionError(
                f"shard {self.path}: {what} is damaged, bytes {low} to {high} have crc32c {found:#010x} "
                f"and not {expected:#010x}; restore the file from a copy or build it again"
            )

    def check_padding(self) -> None:
        """Bytes between the sections carry nothing and have no checksum; they must be zero."""
        for section in self.sections:
            low = section.offset + section.size
            high = low + padding(low)
            if any(self.bytes[low:high]):
                raise CorruptionError(
                    f"shard {self.path}: the padding is damaged, bytes {low} to {high} are not zero"
                )


class Checked:
    """A section whose blocks are verified once each, before they are first used."""

    def __init__(self, file: MappedFile, section: Section, check: bool) -> None:
        self.section = section
        self._file = file
        self._block_bytes: int = file.footer["crc_block_bytes"]
        self._pending = bytearray([check]) * len(section.crc32c)

    @property
    def pending(self) -> bool:
        """Whether some block is not verified yet."""
        return 1 in self._pending

    def need(self, low: int, high: int) -> None:
        """Verify what was not verified of the section's bytes `[low, high)`.

        Raises:
            CorruptionError: when a block does not match its checksum.
        """
        first, end = low // self._block_bytes, -(-high // self._block_bytes)
        while (block := self._pending.find(1, first, end)) >= 0:
            self._verify(block)
            self._pending[block] = 0

    def need_all(self) -> None:
        """Verify what was not verified of the whole section."""
        self.need(0, self.section.size)

    def verify(self) -> None:
        """Verify the whole section, again where it was verified before."""
        for block in range(len(self._pending)):
            self._verify(block)

    def _verify(self, block: int) -> None:
        section = self.section
        low = section.offset + block * self._block_bytes
        high = min(low + self._block_bytes, section.offset + section.size)
        of = section.role if section.column is None else f"{section.role} {section.column}"
        self._file.compare(low, high, section.crc32c[block], f"block {block} of {of}")


def _map_file(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise DatasetNotFoundError(
            f"shard {path} is missing; restore it from a copy or build it again"
        ) from None
    except OSError as problem:
        raise DataError(
            f"cannot open shard {path}: {problem.strerror}; check its permissions and ulimit -n"
        ) from None
    except ValueError:
        raise FormatError(f"shard {path} is empty; restore it from a copy or build it again") from None


def _read_header(data: memoryview, path: Path) -> UUID:
    if len(data) < HEADER.size + TRAILER.size or bytes(data[: len(MAGIC)]) != MAGIC:
        raise FormatError(f"{path} is not a blixt shard: it does not start with {MAGIC.decode()}")
    _, major, _, _, dataset_id, crc = HEADER.unpack(data[: HEADER.size])
    if crc32c(data[: HEADER.size - 4]) != crc:
        raise CorruptionError(f"shard {path}: the header is damaged, bytes 0 to {HEADER.size}")
    if major != MAJOR:
        raise FormatError(
            f"shard {path} has format version {major}, this blixt reads version {MAJOR}; upgrade blixt"
        )
    return UUID(bytes=dataset_id)


def _read_footer(data: memoryview, path: Path) -> tuple[int, dict[str, Any]]:
    length, crc, magic = TRAILER.unpack(data[-TRAILER.size :])
    end = len(data) - TRAILER.size
    if magic != END_MAGIC or length > end - HEADER.size:
        raise FormatError(f"shard {path} was cut short or not finished: its end mark is missing")
    footer = data[end - length : end]
    if crc32c(footer) != crc:
        raise CorruptionError(f"shard {path}: the footer is damaged, bytes {end - length} to {end}")
    return crc, json.loads(bytes(footer))
