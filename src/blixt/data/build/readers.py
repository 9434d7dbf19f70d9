"""Inputs read where they are used: any dataset with `len` and `[]`, and groups of another reader's."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from blixt.data.build.units import Reader

_AT_ONCE = 64


class IndexedReader:
    """A dataset: ours, one of Hugging Face, or any object with `len` and `[]`; it travels to the workers.

    Args:
        dataset: the object.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._name = f"{type(dataset).__qualname__} {len(dataset)} {_fingerprint(dataset)}"

    def __len__(self) -> int:
        return len(self.dataset)

    def identity(self, first: int, stop: int) -> str:
        """Name the inputs `[first, stop)`."""
        return f"{self._name} {first} {stop}"

    def read(self, first: int, stop: int) -> Iterable[Any]:
        """Yield the items `[first, stop)`."""
        if hasattr(self.dataset, "_fingerprint") and hasattr(self.dataset, "select"):
            return iter(self.dataset.select(range(first, stop)))
        if not hasattr(self.dataset, "__getitems__"):
            return (self.dataset[index] for index in range(first, stop))
        return self._in_runs(first, stop)

    def _in_runs(self, first: int, stop: int) -> Iterator[Any]:
        for low in range(first, stop, _AT_ONCE):
            yield from self.dataset.__getitems__(list(range(low, min(low + _AT_ONCE, stop))))


class Grouped:
    """The inputs of another reader in lists of `size`.

    Args:
        reader: the other one.
        size: inputs per list; the last may be shorter.
        total: how many of its inputs are used.
    """

    def __init__(self, reader: Reader, size: int, total: int) -> None:
        self._reader = reader
        self._size = size
        self._total = total

    def __len__(self) -> int:
        return -(-self._total // self._size)

    def identity(self, first: int, stop: int) -> str:
        """Name the lists `[first, stop)`."""
        return f"{self._size} of {self._reader.identity(first * self._size, self._end(stop))}"

    def read(self, first: int, stop: int) -> Iterator[list[Any]]:
        """Yield the lists `[first, stop)`."""
        items = iter(self._reader.read(first * self._size, self._end(stop)))
        while group := list(islice(items, self._size)):
            yield group

    def _end(self, stop: int) -> int:
        return min(stop * self._size, self._total)


def _fingerprint(dataset: Any) -> str:
    """Name a dataset's content where it can tell: Hugging Face has a fingerprint, ours a state."""
    if hasattr(dataset, "_fingerprint"):
        return str(dataset._fingerprint)
    if hasattr(dataset, "state_dict"):
        state = json.dumps(dataset.state_dict(), sort_keys=True, default=str)
        return hashlib.blake2b(state.encode(), digest_size=16).hexdigest()
    return ""
