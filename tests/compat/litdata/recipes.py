"""Functions that worker processes of these tests import."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blixt.compat.litdata.streaming.serializers import Serializer


def number(i: int) -> int:
    return i


def sample(i: int) -> dict[str, Any]:
    return {
        "i": i,
        "text": "blå" * (i % 3),
        "tensor": torch.full((i % 3 + 1, 2), float(i)),
        "array": np.arange(i % 4),
        "words": [f"w{k}" for k in range(i % 4)],
        "pair": (i, [1.5] * (i % 2)),
        "nothing": None,
    }


def document(i: int) -> torch.Tensor:
    return torch.arange(i * 10, i * 10 + 10, dtype=torch.int32)


def some(i: int) -> Iterator[dict[str, int]]:
    yield from ({"i": i} for _ in range(i % 3))


def write_file(item: int, output_dir: str) -> None:
    (Path(output_dir) / f"{item}.txt").write_text(str(item))


def table_length(part: Any) -> dict[str, int]:
    return {"rows": part.metadata.num_rows}


def track(i: int) -> dict[str, Any]:
    frames = np.arange(3 + i)
    return {
        "score": frames.astype(np.float32) + i,
        "features": torch.from_numpy(np.stack([frames, frames * i], 1).astype(np.float32)),
        "valid": frames % 2 == 0,
    }


def text_of(row: dict[str, Any]) -> str:
    return f"{row['id']} {row['text']}"


class Point:
    """A type that only its own serializer knows."""

    def __init__(self, x: int, y: int) -> None:
        self.place = x, y


class PointSerializer(Serializer):
    """Points as text."""

    def serialize(self, data: Point) -> tuple[bytes, str | None]:
        return "{},{}".format(*data.place).encode(), None

    def deserialize(self, data: bytes) -> Point:
        return Point(*map(int, data.split(b",")))

    def can_serialize(self, data: Any) -> bool:
        return isinstance(data, Point)


class ComplexSerializer(Serializer):
    """Complex numbers as the folder `custom` has them; hears which version it is."""

    heard: Any = None

    def setup(self, metadata: Any) -> None:
        self.heard = metadata

    def serialize(self, data: complex) -> tuple[bytes, str | None]:
        return f"{data.real} {data.imag}".encode(), "point:v2"

    def deserialize(self, data: bytes) -> Any:
        return complex(*map(float, bytes(data).split())), self.heard

    def can_serialize(self, data: Any) -> bool:
        return isinstance(data, complex)


def point(i: int) -> dict[str, Any]:
    return {"i": i, "point": Point(i, -i), "more": (Point(0, i), [f"w{i}"])}


def touch(x: Any) -> Any:
    return x


def collate_one_by_one(items: list[Any]) -> list[Any]:
    return [touch(item) for item in items]
