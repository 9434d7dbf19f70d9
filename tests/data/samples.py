"""Samples, functions for `optimize`, and comparison, shared by the tests of data."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from blixt.data import DatasetWriter, Ragged, Tokens


def same(a: Any, b: Any) -> bool:
    """Whether two samples are equal in structure, types of leaves and values."""
    if isinstance(a, Ragged):
        return same(a.array, b)
    if isinstance(a, Tokens):
        return same(a.array(), b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and (a == b or a != a)


def write_dataset(folder: Path, samples: list[Any], chunk_bytes: int | str = "64MB") -> Path:
    with DatasetWriter(folder, chunk_bytes=chunk_bytes) as writer:
        for sample in samples:
            writer.write(sample)
    return folder


def write_stream(folder: Path, documents: list[int], chunk_bytes: int | str = "64MB") -> Path:
    """Write documents of these lengths; token k of the whole stream is k modulo 65536."""
    ends = np.cumsum([0, *documents])
    samples = [np.arange(low, high).astype(np.uint16) for low, high in pairwise(ends)]
    return write_dataset(folder, samples, chunk_bytes)


def mixed(i: int) -> dict[str, Any]:
    """A sample with every kind of column."""
    return {
        "id": i,
        "score": i / 3,
        "even": i % 2 == 0,
        "pixels": np.full((2, 3), i, np.float32),
        "text": "blå" * (i % 5),
        "raw": bytes(range(i % 7)),
        "pair": (np.int16(i), [f"a{i}", Ragged(np.ones((i % 3, 2)))]),
        "tokens": Tokens(list(range(i % 4)), dtype="uint16"),
    }
