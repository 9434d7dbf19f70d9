"""Look at a dataset: what it holds, its first samples, and whether every byte is as it was written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blixt.data.dataset import Dataset, Shards
from blixt.data.errors import DataError
from blixt.data.snapshot import load


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found."""

    shards: int
    rows: int
    size_bytes: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def info(path: str | Path, version: int | None = None) -> dict[str, Any]:
    """Return what a dataset holds, as plain JSON-able values.

    Raises:
        DatasetNotFoundError: when there is no dataset.
    """
    snapshot = load(Path(path), version)
    return {
        "path": str(path),
        "dataset_id": str(snapshot.dataset_id),
        "version": snapshot.version,
        "created_at": snapshot.created_at,
        "rows": snapshot.rows,
        "size_bytes": snapshot.size_bytes,
        "shards": len(snapshot.shards),
        "columns": {column.name: column.describe() for column in snapshot.schema.columns},
        "tokens": {
            column.name: snapshot.tokens(column.name)
            for column in snapshot.schema.columns
            if column.kind == "stream"
        },
    }


def head(path: str | Path, n: int = 5, version: int | None = None) -> list[Any]:
    """Return the first `n` samples as they were written."""
    return Dataset(path, version=version)[:n]


def verify(path: str | Path, version: int | None = None) -> Report:
    """Read every shard of a version and compare each block with its checksum.

    Returns:
        A report; its `problems` name shard, block and byte range.

    Raises:
        DatasetNotFoundError, CorruptionError: when the snapshot itself cannot be read.
    """
    shards = Shards(path, version)
    problems: list[str] = []
    for number in range(len(shards)):
        try:
            shards[number].verify()
        except DataError as problem:
            problems.append(str(problem))
    snapshot = shards.snapshot
    return Report(len(shards), snapshot.rows, snapshot.size_bytes, problems)
