"""Inputs cut into numbered units: the grain of order, retry and resume.

A unit carries its inputs (pickled, so that a worker's answer to a bad one names it), or only says which
ones they are, and a `Reader` that travelled to the worker once reads them there.
"""

import functools
import hashlib
import pickle
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any, Protocol, cast

from blixt.data.errors import BuildError

CANNOT_TRAVEL = (pickle.PicklingError, AttributeError, TypeError, RecursionError)
"""What pickle raises for something that no other process can have."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A numbered run of inputs.

    Attributes:
        number: its place among the units.
        first: the number of its first input.
        count: how many inputs it has.
        digest: names its inputs; a finished unit with another digest is done again.
        inputs: the inputs, pickled or (in this process only) as they are; None when a `Reader` reads them.
    """

    number: int
    first: int
    count: int
    digest: str
    inputs: bytes | list[Any] | None = None

    def describe(self, index: int) -> str:
        """Name one of its inputs for a person."""
        if self.inputs is None or not self.first <= index < self.first + self.count:
            return f"input {index}"
        try:
            return f"input {index} ({short(self.load()[index - self.first])})"
        except Exception:
            return f"input {index}"

    def load(self) -> list[Any]:
        """Return the inputs that it carries."""
        return pickle.loads(self.inputs) if isinstance(self.inputs, bytes) else self.inputs or []


class Reader(Protocol):
    """Inputs that are read where they are used, by their number."""

    def __len__(self) -> int:
        """How many inputs there are."""
        ...

    def identity(self, first: int, stop: int) -> str:
        """Name the inputs `[first, stop)`, so that a changed one is noticed."""
        ...

    def read(self, first: int, stop: int) -> Iterable[Any]:
        """Yield the inputs `[first, stop)`."""
        ...


class Units(ABC):
    """All units of a job.

    Attributes:
        total: how many inputs there are, None while nobody knows.
        reader: what a worker needs for units that carry no inputs.
    """

    total: int | None = None
    reader: Reader | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Unit]:
        """Yield the units in order."""


class PlannedUnits(Units):
    """Units whose inputs are known from the beginning: unit `n` can be had at any time."""

    def __init__(self, borders: Sequence[int]) -> None:
        self.borders = borders
        self.total = borders[-1]

    @abstractmethod
    def __getitem__(self, number: int) -> Unit: ...

    def __len__(self) -> int:
        return len(self.borders) - 1

    def __iter__(self) -> Iterator[Unit]:
        return (self[number] for number in range(len(self)))

    @abstractmethod
    def fingerprint(self) -> str:
        """Name all inputs together, however they are cut."""


class ListedUnits(PlannedUnits):
    """A sequence, cut.

    Args:
        inputs: the sequence.
        borders: where each unit begins, and the end.
        travels: whether the inputs must reach another process.
    """

    def __init__(self, inputs: Sequence[Any], borders: Sequence[int], travels: bool) -> None:
        super().__init__(borders)
        self._inputs = inputs
        self._travels = travels

    def __getitem__(self, number: int) -> Unit:
        first, stop = self.borders[number], self.borders[number + 1]
        return _carrying(number, first, list(self._inputs[first:stop]), self._travels)

    def fingerprint(self) -> str:
        """Name all inputs together, however they are cut."""
        digest = hashlib.blake2b(digest_size=16)
        for first in range(0, len(self._inputs), 1024):
            group = list(self._inputs[first : first + 1024])
            digest.update(_carrying(0, first, group, self._travels).digest.encode())
        return digest.hexdigest()


class ReadUnits(PlannedUnits):
    """What a reader reads, cut."""

    def __init__(self, reader: Reader, borders: Sequence[int]) -> None:
        super().__init__(borders)
        self.reader = self._reader = reader

    def __getitem__(self, number: int) -> Unit:
        first, stop = self.borders[number], self.borders[number + 1]
        name = self._reader.identity(first, stop)
        return Unit(number, first, stop - first, hashlib.blake2b(name.encode(), digest_size=16).hexdigest())

    def fingerprint(self) -> str:
        """Name all inputs together, however they are cut."""
        return self._reader.identity(0, len(self._reader))


class StreamedUnits(Units):
    """Whatever an iterator gives, cut as it comes; a unit's inputs live in memory until it is done."""

    def __init__(
        self, inputs: Iterable[Any], unit_size: int, travels: bool, total: int | None = None
    ) -> None:
        self.total = total
        self._inputs = inputs
        self._unit_size = unit_size
        self._travels = travels

    def __iter__(self) -> Iterator[Unit]:
        number, first = 0, 0
        inputs = iter(self._inputs)
        while items := list(islice(inputs, self._unit_size)):
            yield _carrying(number, first, items, self._travels)
            number, first = number + 1, first + len(items)


def borders_by_count(total: int, unit_size: int) -> list[int]:
    """Return the borders of units of `unit_size` inputs each; the last may be shorter.

    Example:
        >>> borders_by_count(10, 4)
        [0, 4, 8, 10]
    """
    return [*range(0, total, unit_size), total]


def borders_by_weight(weights: Sequence[float], count: int) -> list[int]:
    """Return the borders of about `count` units of nearly equal weight, at least one input each.

    Example:
        >>> borders_by_weight([1, 1, 1, 1, 4, 4], 3)
        [0, 4, 5, 6]
    """
    sums = list(accumulate(weights))
    borders = [0]
    for part in range(1, count):
        border = bisect_left(sums, sums[-1] * part / count) + 1
        if borders[-1] < border < len(weights):
            borders.append(border)
    return [*borders, len(weights)]


def borders_at(cuts: Sequence[int], unit_size: int) -> list[int]:
    """Return the borders of units of at least `unit_size` inputs that end only at the cuts.

    Example:
        >>> borders_at([3, 6, 9, 10], 5)
        [0, 6, 10]
    """
    borders = [0]
    for cut in cuts:
        if cut - borders[-1] >= unit_size:
            borders.append(cut)
    return borders if borders[-1] == cuts[-1] else [*borders, cuts[-1]]


def unwrapped(fn: Any) -> Any:
    """Return the function inside of partials."""
    while isinstance(fn, functools.partial):
        fn = cast("functools.partial[Any]", fn).func
    return fn


def short(item: Any) -> str:
    """Return an input as text for a message, at most 80 characters."""
    text = repr(item)
    return text if len(text) <= 80 else text[:77] + "..."


def _carrying(number: int, first: int, items: list[Any], travels: bool) -> Unit:
    """Make a unit that carries its inputs, named by their pickled bytes."""
    try:
        packed: bytes | list[Any] = pickle.dumps(items, pickle.HIGHEST_PROTOCOL)
    except CANNOT_TRAVEL as problem:
        if travels:
            raise BuildError(
                f"inputs {first} to {first + len(items) - 1} cannot be sent to a worker process ({problem}); "
                "pass names or paths and open them in the function, or use num_workers=0"
            ) from None
        packed = items
    types = [type(item).__qualname__ for item in items]
    named = packed if isinstance(packed, bytes) else repr(types).encode()
    digest = hashlib.blake2b(named, digest_size=16).hexdigest()
    return Unit(number, first, len(items), digest, packed if travels else items)
