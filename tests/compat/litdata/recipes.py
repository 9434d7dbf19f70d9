"""Functions that worker processes of these tests import."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


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
