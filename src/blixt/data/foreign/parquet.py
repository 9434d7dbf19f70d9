"""Parquet files as a dataset, a row group at a time."""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from blixt.data.errors import FormatError
from blixt.data.foreign.arrow import media_columns, samples
from blixt.data.foreign.byte_parts import ByteParts
from blixt.data.foreign.files import Files
from blixt.data.foreign.optional import need
from blixt.data.foreign.paths import find
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.foreign.thrift import end_bytes, read_footer
from blixt.data.store import Credentials

SUFFIXES = (".parquet",)
_KEPT_GROUPS = 8
_END_BYTES = 1 << 16
"""What is read of a file to begin with: most footers are shorter."""
_AT_ONCE = 16


class _Place(NamedTuple):
    """A row group: its file, its number in it, and where the bytes of the wanted columns begin and end."""

    file: int
    group: int
    begins: int
    ends: int


class ParquetSource:
    """Row groups of Parquet files; see `ParquetDataset` for the arguments."""

    name = "parquet"

    def __init__(self, files: Files, names: Sequence[str], columns: Sequence[str] | None) -> None:
        self._files, self._names = files, list(names)
        self._columns = None if columns is None else list(columns)
        self.part_rows: list[int] = []
        self.size_bytes = 0
        self._places: list[_Place] = []
        self._optional: set[str] = set()
        crc = 0
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            ends = list(threads.map(self._end, range(len(self._names))))
        for number, (name, end) in enumerate(zip(self._names, ends, strict=True)):
            where = self._files.store.url(name)
            metadata = self._open(number, pa_reader(end)).metadata
            footer = read_footer(end, where)
            if len(footer.spans) != metadata.num_row_groups:
                raise FormatError(f"{where} is damaged: its footer makes no sense")
            self._optional |= footer.missing
            for group, spans in enumerate(footer.spans):
                facts = metadata.row_group(group)
                self._places.append(_Place(number, group, *self._span(spans)))
                self.part_rows.append(facts.num_rows)
                if facts.num_rows < 0:
                    raise FormatError(f"{where} is damaged: it says it has {facts.num_rows} rows")
                self.size_bytes += facts.total_byte_size
                crc = zlib.crc32(f"{name}:{group}:{facts.num_rows}:{facts.total_byte_size}".encode(), crc)
        self.fingerprint = f"{crc:08x}"
        self._setup()

    def _end(self, number: int) -> memoryview:
        """Return the last bytes of a file, its footer among them; of a remote file no others are fetched."""
        name = self._names[number]
        size = self._files.size(name)
        end = self._files.part(name, max(0, size - _END_BYTES), size)
        needed = end_bytes(end, self._files.store.url(name))
        return end if needed <= len(end) else self._files.part(name, max(0, size - needed), size)

    def _span(self, spans: dict[str, tuple[int, int]]) -> tuple[int, int]:
        """Return where the wanted columns of a row group begin and end."""
        wanted = [span for name, span in spans.items() if self._columns is None or name in self._columns]
        return min((low for low, _ in wanted), default=0), max((high for _, high in wanted), default=0)

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
        return self._files.store.url(self._names[self._places[part].file])

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
                self._kept[part] = self._read_group(self._places[part])
            self._kept.move_to_end(part)
            return self._kept[part]

    def _read_group(self, place: _Place) -> Any:
        file = self._open(place.file, self._source(place))
        return file.read_row_group(place.group, columns=self._columns)

    def _source(self, place: _Place) -> Any:
        """Return the file for pyarrow: all of it where it lies here, else what the row group needs."""
        name = self._names[place.file]
        if self._files.store.local is not None:
            return pa_reader(self._files.view(name))
        size, end = self._files.size(name), self._end(place.file)
        group = self._files.part(name, place.begins, place.ends)
        parts = [(size - len(end), end), (place.begins, group)]
        file = ByteParts(size, parts, lambda begin, stop: self._files.part(name, begin, stop))
        return need("pyarrow", "parquet").PythonFile(file, mode="r")

    def _open(self, number: int, source: Any) -> Any:
        pa, parquet = need("pyarrow", "parquet"), need("pyarrow.parquet", "parquet")
        where = self._files.store.url(self._names[number])
        try:
            file = parquet.ParquetFile(source)
        except (pa.ArrowException, OSError, ValueError) as problem:
            raise FormatError(f"{where} is no Parquet file, or is damaged: {problem}") from None
        absent = set(self._columns or ()) - set(file.schema_arrow.names)
        if absent:
            raise FormatError(
                f"{where} has no column {', '.join(sorted(absent))}; "
                f"it has {', '.join(file.schema_arrow.names)}"
            )
        return file


def pa_reader(content: memoryview) -> Any:
    """Return bytes as pyarrow reads them, uncopied."""
    pa = need("pyarrow", "parquet")
    return pa.BufferReader(pa.py_buffer(content))


class ParquetDataset(ForeignDataset):
    """The rows of Parquet files, as dicts by column.

    A row group is read whole and a few are kept, so shuffled reading wants row groups that are not too large.
    To open a remote dataset reads the ends of its files, once on a machine; then comes what is read of them.

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
        store, sizes = find(location, SUFFIXES, credentials, options)
        files = Files(store, cache_dir, cache_bytes, sizes)
        super().__init__(ParquetSource(files, list(sizes), columns), **rows)
