"""Parquet files as inputs: rows as dicts, or whole row groups as tables; a unit reads only its row groups."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

from blixt.data.build.local_files import local_files
from blixt.data.errors import BuildError


class _Parquet:
    """What both ways share: the row groups of all files."""

    def __init__(
        self, files: str | Path | Sequence[str | Path], *, columns: Sequence[str] | None = None
    ) -> None:
        self._files = local_files(files, "ParquetDataset")
        self._columns = None if columns is None else list(columns)
        self._groups: list[tuple[int, int, int]] = []
        self._sizes: list[str] = []
        for index, path in enumerate(self._files):
            meta = _metadata(path)
            if self._columns is not None:
                _check_columns(path, meta, self._columns)
            self._sizes.append(f"{Path(path).stat().st_size}:{Path(path).stat().st_mtime_ns}")
            self._groups += [
                (index, group, meta.row_group(group).num_rows) for group in range(meta.num_row_groups)
            ]

    def _name(self, group: int) -> str:
        file, number, rows = self._groups[group]
        return f"{self._files[file]}#{number}:{rows}:{self._sizes[file]}"

    def _table(self, group: int) -> Any:
        file, number, _ = self._groups[group]
        with _pyarrow().ParquetFile(self._files[file]) as opened:
            return opened.read_row_group(number, columns=self._columns)


class ParquetRows(_Parquet):
    """Every row of Parquet files as a dict; units end where row groups end.

    Args:
        files: one local path, or several.
        columns: the columns to read; all when None.

    Raises:
        BuildError: when a file lacks a column, or pyarrow is not installed.
    """

    def __init__(
        self, files: str | Path | Sequence[str | Path], *, columns: Sequence[str] | None = None
    ) -> None:
        super().__init__(files, columns=columns)
        self.cuts = list(accumulate(rows for *_, rows in self._groups))

    def __len__(self) -> int:
        return self.cuts[-1] if self.cuts else 0

    def identity(self, first: int, stop: int) -> str:
        """Name the rows `[first, stop)`."""
        groups = range(bisect_right(self.cuts, first), bisect_right(self.cuts, stop - 1) + 1)
        return f"{first} {stop} {self._columns} " + " ".join(map(self._name, groups))

    def read(self, first: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield the rows `[first, stop)`, one row group in memory at a time."""
        while first < stop:
            group = bisect_right(self.cuts, first)
            begins = self.cuts[group - 1] if group else 0
            take = min(stop, self.cuts[group]) - first
            yield from self._table(group).slice(first - begins, take).to_pylist()
            first += take


class ParquetTables(_Parquet):
    """Every row group of Parquet files as a `pyarrow.Table`; `fn` is usually a generator then.

    Args:
        files: one local path, or several.
        columns: the columns to read; all when None.

    Raises:
        BuildError: when a file lacks a column, or pyarrow is not installed.
    """

    def __len__(self) -> int:
        return len(self._groups)

    def identity(self, first: int, stop: int) -> str:
        """Name the row groups `[first, stop)`."""
        return f"{self._columns} " + " ".join(map(self._name, range(first, stop)))

    def read(self, first: int, stop: int) -> Iterator[Any]:
        """Yield the row groups `[first, stop)`."""
        return map(self._table, range(first, stop))


def _metadata(path: str) -> Any:
    try:
        return _pyarrow().read_metadata(path)
    except (ValueError, OSError) as problem:
        raise BuildError(f"{path} is not a Parquet file that can be read: {problem}") from None


def _check_columns(path: str, meta: Any, columns: Sequence[str]) -> None:
    known = set(meta.schema.to_arrow_schema().names)
    missing = [column for column in columns if column not in known]
    if missing:
        raise BuildError(f"{path} has no column {missing[0]!r}; it has {', '.join(sorted(known))}")


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise BuildError("reading Parquet needs pyarrow; pip install 'blixt[parquet]'") from None
