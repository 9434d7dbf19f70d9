"""What a footer says about each column, counted when the shard is closed."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.codecs.arrays import storage_dtype
from blixt.data.schema import Column


def number_stats(column: Column, data: Any) -> dict[str, Any]:
    """Return size, and the least and the greatest value where that is a finite number.

    Example:
        >>> number_stats(Column("n", "fixed", "int", "int64"), np.array([3, -1]).tobytes())
        {'bytes': 16, 'min': -1, 'max': 3}
    """
    found: dict[str, Any] = {"bytes": len(data)}
    values = np.frombuffer(data, storage_dtype(str(column.dtype)))
    if not len(values) or values.dtype.kind not in "iuf" or column.dtype == "bfloat16":
        return found
    least, greatest = values.min().item(), values.max().item()
    if math.isfinite(least) and math.isfinite(greatest):
        found |= {"min": least, "max": greatest}
    return found


def value_stats(offsets: npt.NDArray[np.uint64], width: int) -> list[dict[str, int]]:
    """Return size, and the shortest and the longest value, of each variable column."""
    sizes = np.diff(offsets.astype(np.int64)).reshape(-1, width)
    if not len(sizes):
        return [{"bytes": 0}] * width
    return [
        {"bytes": int(column.sum()), "min_bytes": int(column.min()), "max_bytes": int(column.max())}
        for column in sizes.T
    ]
