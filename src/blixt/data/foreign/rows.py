"""What readers of other formats share: a source that reads rows of its files, seen as a dataset of ours."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Protocol, cast

import numpy as np

from blixt.data.errors import DataError, FormatError
from blixt.data.order import Int
from blixt.data.rows import Rows

Allocate = Callable[[tuple[int, ...], Any], np.ndarray[Any, Any]]


class Source(Protocol):
    """Files that hold rows, in one format."""

    @property
    def name(self) -> str:
        """The format, such as `litdata`."""
        ...

    @property
    def part_rows(self) -> Sequence[int]:
        """How many rows each part (file, row group) holds."""
        ...

    @property
    def size_bytes(self) -> int:
        """What all parts take together."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the data does."""
        ...

    def where(self, part: int) -> str:
        """Return the address of a part's file, for messages."""
        ...

    def confirm(self) -> None:
        """See that no file was cut short while rows were read.

        Raises:
            FormatError: when one was.
        """
        ...

    def read(self, part: int, rows: list[int], stored: bool) -> list[Any]:
        """Return rows of a part as samples, in the order asked for.

        Args:
            part: the part's number.
            rows: numbers within the part, in `[0, part_rows[part])`.
            stored: return what our writer stores without loss (a JPEG stays a JPEG) instead of decoded
                values.
        """
        ...


class ForeignDataset(Rows[Any]):
    """A dataset in another library's format, read in place: `len`, `[]`, iteration, shuffle, state, `Loader`.

    The order, the ranks and the state are those of every dataset of ours, so a run over another library's
    files resumes exactly and under another world size, too.
    """

    def __init__(
        self,
        source: Source,
        *,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 16,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.source = source
        self._first_row = np.array([0, *accumulate(source.part_rows)], np.int64)
        rows = int(self._first_row[-1])
        super().__init__(
            rows=rows,
            row_bytes=source.size_bytes / max(rows, 1),
            identity={"source": f"{source.name}:{source.fingerprint}"},
            shuffle=shuffle,
            seed=seed,
            window=window,
            rank=rank,
            world_size=world_size,
        )

    def item(self, row: int) -> Any:
        """Return one row as a sample."""
        return self.take([row])[0]

    def items(self, rows: Int) -> list[Any]:
        """Return rows as samples, each part read once."""
        return self.take(rows.tolist())

    def gather(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return rows as one batch: the sample's tree with stacked arrays where shapes agree, else lists."""
        return stack(self.take(rows.tolist()), allocate)

    def take(self, rows: Sequence[int], *, stored: bool = False) -> list[Any]:
        """Return rows by their stored numbers; with `stored`, as what our writer keeps without loss."""
        numbers = np.asarray(rows, np.int64)
        part_of = np.searchsorted(self._first_row, numbers, "right") - 1
        samples: list[Any] = [None] * len(rows)
        for part in np.unique(part_of).tolist():
            places = np.flatnonzero(part_of == part)
            within = (numbers[places] - self._first_row[part]).tolist()
            with _naming(self.source.where(part)):
                found = self.source.read(part, within, stored)
            for place, sample in zip(places, found, strict=True):
                samples[place] = sample
        self.source.confirm()
        return samples


def stack(samples: Sequence[Any], allocate: Allocate = np.empty) -> Any:
    """Return samples as one batch: arrays and numbers stacked where shapes agree, everything else in lists.

    Args:
        samples: trees of the same nesting.
        allocate: makes the batch's arrays.

    Example:
        >>> stack([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
        {'x': array([1, 2]), 'name': ['a', 'b']}
    """
    first = samples[0] if samples else None
    if isinstance(first, dict) and all(_keys(sample) == _keys(first) for sample in samples):
        return {key: stack([sample[key] for sample in samples], allocate) for key in _keys(first) or ()}
    if isinstance(first, tuple) and all(_length(sample) == _length(first) for sample in samples):
        return tuple(stack(list(column), allocate) for column in zip(*samples, strict=True))
    if isinstance(first, (np.ndarray, np.generic, int, float)):
        return _stacked(samples, allocate)
    return list(samples)


def _keys(sample: Any) -> Any:
    return cast("dict[Any, Any]", sample).keys() if isinstance(sample, dict) else None


def _length(sample: Any) -> int | None:
    return len(cast("tuple[Any, ...]", sample)) if isinstance(sample, tuple) else None


def _stacked(values: Sequence[Any], allocate: Allocate) -> Any:
    arrays = [np.asarray(value) for value in values]
    shape, dtype = arrays[0].shape, arrays[0].dtype
    if dtype.hasobject or any(array.shape != shape or array.dtype != dtype for array in arrays):
        return list(values)
    return np.stack(arrays, out=allocate((len(arrays), *shape), dtype))


@contextmanager
def _naming(where: str) -> Generator[None, None, None]:
    """Say in every error which file it is about."""
    try:
        yield
    except DataError as problem:
        if not isinstance(problem, FormatError) or where in str(problem):
            raise
        raise FormatError(f"{where}: {problem}") from problem
    except Exception as problem:  # each codec has an error class of its own
        raise FormatError(
            f"{where} cannot be read ({type(problem).__name__}: {problem}); it is damaged (restore it "
            "from a copy), unless a decoder of yours failed"
        ) from problem


def check_rows(rows: list[int], count: int, where: str) -> None:
    """Make sure that a part holds as many rows as its index says.

    Raises:
        FormatError: when it does not.
    """
    if rows and max(rows) >= count:
        raise FormatError(f"{where} holds {count} rows, fewer than its index says; restore it from a copy")
