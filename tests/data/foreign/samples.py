"""The samples in the fixtures, as plain values; `make_fixtures.py` hands them to other libraries' writers.

Kept free of other imports, because it is also read inside the environments of those libraries.
"""

from typing import Any

import numpy as np

ROWS = 10
CHUNK_ROWS = 4
DOCUMENTS = 7
CHUNK_TOKENS = 30
TAR_ROWS = 3


def pixels(i: int) -> np.ndarray:
    """A small uint8 image, height 4, width 6."""
    return ((np.arange(72).reshape(4, 6, 3) * 3 + 5 * i) % 256).astype(np.uint8)


def tree(i: int) -> dict[str, Any]:
    """One leaf of each common kind; `matrix`, `vector` and `empty` are written as torch tensors."""
    return {
        "int": i - 3,
        "float": i / 4,
        "text": "rød " * (i % 4),
        "raw": bytes(range(i)),
        "matrix": np.full((2, 3), i, np.float32),
        "vector": np.arange(i + 1, dtype=np.int64),
        "empty": np.zeros((0, 2), np.float16),
        "np2": np.full((2, 2), i / 8),
        "np1": np.arange(3, dtype=np.uint16) + i,
        "pair": (i * i, f"p{i}"),
    }


TENSORS = ("matrix", "vector", "empty")


def plain(i: int) -> dict[str, Any]:
    """A dict of plain Python values: newer versions of LitData store these as Arrow rows."""
    return {"id": i, "score": i / 2, "text": f"row {i} blå", "raw": bytes([i]) * i, "even": i % 2 == 0}


def nested(i: int) -> dict[str, Any]:
    """Lists and dicts of varying length beside a tensor (`x`), so that they are leaves of their own."""
    return {
        "x": np.full((1, 2), i, np.float32),
        "words": [f"w{k}" for k in range(i % 3)],
        "counts": list(range(i % 4)),
        "turns": [{"role": "user", "n": k, "w": k / 2, "ok": k > 1, "no": None} for k in range(i % 3 + 1)],
        "mixed": {"a": [1.5, 2.5], "b": None, "c": [[1], ["x"]], "d": [True, False][: i % 3]},
    }


def document(i: int) -> np.ndarray:
    """One document of a token stream."""
    return (np.arange(5 + 3 * i) + 100 * i).astype(np.int32)


def columns(i: int) -> dict[str, Any]:
    """A sample of MosaicML's MDS, one column of each encoding that is not an image."""
    return {
        "bytes": bytes(range(i)),
        "int": i - 5,
        "int8": np.int8(-i),
        "float16": np.float16(i / 2),
        "float64": np.float64(i / 3),
        "uint32": np.uint32(i * 1000),
        "str": "blå" * i,
        "str_int": 10**20 + i,
        "str_float": i / 7,
        "json": {"k": [i, None, "x"]},
        "array": np.full((2, i + 1), i, np.int16),
        "array_typed": np.arange(i + 1, dtype=np.float32),
        "array_shaped": np.full((2, 3), i, np.uint8),
    }


COLUMN_ENCODINGS = {name: name for name in columns(0) if not name.startswith("array")} | {
    "array": "ndarray",
    "array_typed": "ndarray:float32",
    "array_shaped": "ndarray:uint8:2,3",
}


def record(i: int) -> dict[str, Any]:
    """Arrays of as many frames."""
    frames = np.arange(3 + i)
    return {
        "score": frames.astype(np.float32) + i,
        "features": np.stack([frames, frames * i], 1).astype(np.float32),
        "valid": frames % 2 == 0,
    }
