"""Functions that workers run; they are here because importing this file is cheap."""

import os
from collections.abc import Iterator
from typing import Any

from blixt.data.build.sources import ALL_DONE


def number(i: int) -> dict[str, int]:
    return {"x": i}


def as_it_is(item: Any) -> Any:
    return item


def sums(items: list[int]) -> dict[str, int]:
    return {"x": sum(items), "count": len(items)}


def file_name(path: str) -> dict[str, Any]:
    return {"name": os.path.basename(path), "size": os.path.getsize(path)}


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    yield from table.to_pylist()


def batch_sum(batch: dict[str, Any]) -> dict[str, int]:
    return {"x": int(batch["x"].sum())}


def produce(queue: Any, count: int) -> None:
    for i in range(count):
        queue.put(i)
    queue.put(ALL_DONE)
