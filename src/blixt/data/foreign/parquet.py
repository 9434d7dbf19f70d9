"""Parquet files as a dataset, a row group at a time."""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blixt.data.errors import FormatError
from blixt.data.foreign.arrow import media_columns, samples
from blixt.data.foreign.files import Files
from blixt.data.foreign.optional import need
from blixt.data.foreign.paths import find
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.foreign.thrift import with_missing
from blixt.data.store import Credentials

SUFFIXES = (".parquet",)
_KEPT_GROUPS = 8


class ParquetSource:
    """Row groups of Parquet files; see `ParquetDataset` for the arguments."""

    name = "parquet"

    def __init__(self, files: Files, names: list[str], columns: Sequence[str] | None) -> None:
        self._files, self._names = files, names
        self._columns = None if columns is None else list(columns)
        self.part_rows: list[int] = []
        self.size_bytes = 0
        self._places: list[tuple[int, int]] = []
        self._optional: set[str] = set()
        crc = 0
        for number, name in enumerate(names):
            metadata = self._open(number).metadata
            self._optional |= with_missing(self._files.view(name), self._files.store.url(name))
            for group in range(metadata.num_row_groups):
                facts = metadata.row_group(group)
                self._places.append((number, group))
                self.part_rows.append(facts.num_rows)
                if facts.num_rows < 0:
                    raise FormatError(
                        f"{files.store.url(name)} is damaged: it says it has {facts.num_rows} rows"
                    )
                self.size_bytes += facts.total_byte_size
                crc = zlib.crc32(f"{name}:{group}:{facts.num_rows}:{facts.total_byte_size}".encode(), crc)
        self.fingerprint = f"{crc:08x}"
        self._setup()

    def _setup(self) -> None:
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without what was read."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_kept", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._setup()

    def where(self, part: int) -> str:
        """Return the address of a row group's file."""
        return self._files.store.url(self._names[self._places[part][0]])

    def confirm(self) -> None:
        """See that no file was cut short while rows were read."""
        self._files.confirm()

    def read(self, part: int, rows: list[int], stored: bool) -> list[Any]:
        """Return rows of a row group as dicts."""
        table = self.table(part)
        return samples(table.take(rows), stored, media_columns(table.schema), self._optional)

    def table(self, part: int) -> Any:
        """Return a row group as a `pyarrow.Table`; those used last are at hand."""
        with self._lock:
            if part not in self._kept:
                if len(self._kept) >= _KEPT_GROUPS:
                    self._kept.popitem(last=False)
                number, group = self._places[part]
                self._kept[part] = self._open(number).read_row_group(group, columns=self._columns)
            self._kept.move_to_end(part)
            return self._kept[part]

    def _open(self, number: int) -> Any:
        pa = need("pyarrow", "parquet")
        parquet = need("pyarrow.parquet", "parquet")
        name = self._names[number]
        try:
            file = parquet.ParquetFile(pa.BufferReader(pa.py_buffer(self._files.view(name))))
        except (pa.ArrowException, OSError, ValueError) as problem:
            raise FormatError(
                f"{self._files.store.url(name)} is no Parquet file, or is damaged: {problem}"
            ) from None
        absent = set(self._columns or ()) - set(file.schema_arrow.names)
        if absent:
            raise FormatError(
                f"{self._files.store.url(name)} has no column {', '.join(sorted(absent))}; "
                f"it has {', '.join(file.schema_arrow.names)}"
            )
        return file


class ParquetDataset(ForeignDataset):
    """The rows of Parquet files, as dicts by column.

    A row group is read whole and a few are kept, so shuffled reading wants row groups that are not too large.

    Args:
        location: a folder, a file, a pattern with `*`, or names with braces.
        columns: the columns to read; all when None.
        credentials, options: for a remote store; see `open_store`.
        cache_dir: where remote files are kept.
        cache_bytes: how much may lie there.
        rows: `shuffle`, `seed`, `window`, `rank`, `world_size`: as for `Dataset`.

    Raises:
        FormatError: when there are no such files, one is damaged, or a column is not there.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        columns: Sequence[str] | None = None,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: str | int = "20GB",
        **rows: Any,
    ) -> None:
        store, names = find(location, SUFFIXES, credentials, options)
        super().__init__(ParquetSource(Files(store, cache_dir, cache_bytes), names, columns), **rows)
