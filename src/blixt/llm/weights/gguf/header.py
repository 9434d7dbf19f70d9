"""The beginning of a GGUF file: metadata by key, and where each tensor lies.

Parsed here rather than by the `gguf` package, whose reader makes several arrays of every token: a vocabulary
of 150,000 takes it seconds.
"""

import struct
from dataclasses import dataclass
from typing import Any

from blixt.llm.errors import WeightsError

MAGIC = b"GGUF"
ALIGNMENT = 32
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MAX_DIMS = 8


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies.

    Attributes:
        name: In the file.
        shape: As torch orders it: the fastest dimension last.
        kind: ggml's number of the format of its numbers.
        offset: From the beginning of the tensors' part of the file, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """Everything before the numbers.

    Attributes:
        metadata: Values by key: numbers, texts, lists of them.
        tensors: Where each tensor lies.
        data_start: Where the tensors' part begins, in bytes.
    """

    metadata: dict[str, Any]
    tensors: list[TensorEntry]
    data_start: int


def parse_header(data: Any, where: object) -> Header:
    """Read the header of a mapped file.

    Args:
        data: The file's bytes: an `mmap`, `bytes` or anything that slices to bytes.
        where: The file, for messages.

    Raises:
        WeightsError: The file is of another format or version, truncated, or damaged.
    """
    if bytes(data[:4]) != MAGIC:
        raise WeightsError(f"{where} is not a GGUF file: it does not begin with the letters GGUF")
    cursor = _Cursor(data)
    try:
        version = cursor.number("I")
        if version not in _VERSIONS:
            raise WeightsError(f"{where} is GGUF of version {version}; versions 2 and 3 are read")
        tensor_count, value_count = cursor.number("Q"), cursor.number("Q")
        metadata = dict(cursor.pair() for _ in range(value_count))
        tensors = [cursor.tensor() for _ in range(tensor_count)]
    except (struct.error, ValueError, OverflowError, MemoryError):
        raise WeightsError(
            f"{where} is truncated or damaged: its header breaks off at byte {cursor.at}; download it again"
        ) from None
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise WeightsError(f"{where} is damaged: general.alignment is {alignment!r}, not a power of two")
    return Header(metadata, tensors, -(-cursor.at // alignment) * alignment)


class _Cursor:
    """Reads one value after another."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.at = len(MAGIC)
        self.size = len(data)

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self) -> str:
        length = self.number("Q")
        if self.at + length > self.size:
            raise ValueError("a text is longer than the file")
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", errors="surrogateescape")

    def pair(self) -> tuple[str, Any]:
        key = self.text()
        return key, self.value(self.number("I"))

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise ValueError("no such type")
            value = self.number(_SCALARS[kind])
            return _shortest(value) if _SCALARS[kind] == "f" else value
        inner, count = self.number("I"), self.number("Q")
        if count > self.size or depth > 4:
            raise ValueError("more values than bytes")
        if inner in _SCALARS:
            values = struct.unpack_from(f"<{count}{_SCALARS[inner]}", self.data, self.at)
            self.at += struct.calcsize(f"<{count}{_SCALARS[inner]}")
            return list(values)
        return [self.value(inner, depth + 1) for _ in range(count)]

    def tensor(self) -> TensorEntry:
        name = self.text()
        dims = self.number("I")
        if dims > _MAX_DIMS:
            raise ValueError("too many dimensions")
        shape = tuple(self.number("Q") for _ in range(dims))
        return TensorEntry(name, shape[::-1], self.number("I"), self.number("Q"))


def _shortest(value: float) -> float:
    """The shortest decimal that means the same float32: 1e-05 rather than 9.999999747378752e-06."""
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value
