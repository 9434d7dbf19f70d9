"""LitData's readers: what turns inputs into items in the workers."""

import io
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from blixt.data.foreign.optional import need


class BaseReader(ABC):
    """Turns an input into what the function gets."""

    @abstractmethod
    def read(self, item: Any) -> Any:
        """Return what the function gets for an item."""

    def remap_items(self, items: Any, num_workers: int) -> list[Any]:
        """Return the items to read, in place of the inputs."""
        del num_workers
        return list(items)


class ParquetReader(BaseReader):
    """Gives Parquet files in parts of `num_rows` rows: pandas frames, or what pyarrow has.

    Args:
        cache_folder: no meaning here: nothing is copied.
        num_rows: rows in a part.
        to_pandas: give pandas frames; else tables where columns or filters are given, else `ParquetFile`s.
        columns: the columns to read; all when None.
        filters: as of `pyarrow.parquet.read_table`.
    """

    def __init__(
        self,
        cache_folder: str | None = None,
        num_rows: int = 65536,
        to_pandas: bool = True,
        columns: Sequence[str] | None = None,
        filters: Any = None,
    ) -> None:
        del cache_folder
        self.num_rows, self.to_pandas, self.columns, self.filters = num_rows, to_pandas, columns, filters

    def remap_items(self, items: Any, num_workers: int) -> list[Any]:
        """Return (file, first row) of each part."""
        del num_workers
        parquet = _parquet()
        return [
            (path, first)
            for path in items
            for first in range(0, parquet.ParquetFile(path).metadata.num_rows, self.num_rows)
        ]

    def read(self, item: tuple[str, int]) -> Any:
        """Return the rows of a part, for which only the row groups that hold them are read."""
        parquet = _parquet()
        path, first = item
        with parquet.ParquetFile(path) as file:
            table = self._rows(file, first)
        if self.filters is not None:
            chosen = self.filters
            table = table.filter(
                parquet.filters_to_expression(chosen) if isinstance(chosen, list) else chosen
            )
        if self.columns is not None:
            table = table.select(list(self.columns))
        if self.to_pandas:
            return table.to_pandas()
        if self.columns is not None or self.filters is not None:
            return table
        part = io.BytesIO()
        parquet.write_table(table, part)
        return parquet.ParquetFile(part)

    def _rows(self, file: Any, first: int) -> Any:
        facts = file.metadata
        starts = [0, *accumulate(facts.row_group(group).num_rows for group in range(facts.num_row_groups))]
        low = bisect_right(starts, first) - 1
        high = bisect_left(starts, min(first + self.num_rows, starts[-1]))
        wanted = None if self.filters is not None else self.columns  # a filter may ask for others
        table = file.read_row_groups(list(range(low, high)), columns=wanted and list(wanted))
        return table.slice(first - starts[low], self.num_rows)


def _parquet() -> Any:
    return need("pyarrow.parquet", "parquet")


class Read:
    """A function after a reader; travels to the workers."""

    def __init__(self, fn: Callable[..., Any], reader: BaseReader) -> None:
        self._fn, self._reader = fn, reader

    def __call__(self, item: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the function on what the reader reads."""
        return self._fn(self._reader.read(item), *args, **kwargs)

    def __repr__(self) -> str:
        return f"{getattr(self._fn, '__qualname__', self._fn)!r} after {type(self._reader).__name__}"
