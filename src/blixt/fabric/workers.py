"""Random samples that are the same whichever process loads them, and when.

A sample draws its random numbers from streams that follow from (the epoch's key, its index). Seeding three
generators for every sample would cost more than loading many a sample, so it is learned which of them the
code really draws from: in the first batch all are seeded and looked at, later the unused ones are only
watched. Whoever draws from a watched one after all has its batch loaded again, seeded, once.
"""

import ctypes
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, TensorDataset, get_worker_info
from torch.utils.data._utils import collate as _collate

_PRIME = 0x9E3779B97F4A7C15
_MT19937_BYTES = 625 * 4  # its state in memory: 624 words and the position in them
_MEMORY = struct.Struct("625I")
_KNOWN_DATA = (TensorDataset, torch.Tensor, np.ndarray, list, tuple, range)
_KNOWN_COLLATE: tuple[Any, ...] = (
    cast("Any", _collate).default_collate,
    cast("Any", _collate).default_convert,
)


def mix(*numbers: int) -> int:
    """A 63-bit seed made of several numbers, far from the seeds of neighbouring numbers."""
    state = 0
    for number in numbers:
        state = (state ^ (number & (2**64 - 1))) * _PRIME % 2**64
        state ^= state >> 29
    return state >> 1


class Stream(Protocol):
    """One of the global generators of this process."""

    def seed(self, seed: int) -> None:
        """Begin the stream of this seed."""
        ...

    def mark(self) -> Any:
        """A cheap copy of its state: enough to see whether somebody drew from it, and to put it back."""
        ...

    def moved(self, mark: Any) -> bool:
        """Whether somebody drew from it since."""
        ...

    def restore(self, mark: Any) -> None:
        """Put the state back."""
        ...


class _Python:
    """Python's own generator: 25 to 100 us to ask for its state, less than one to look at its memory."""

    def __init__(self) -> None:
        self._owner: Any = random.random.__self__
        self._address = self._find()

    def seed(self, seed: int) -> None:
        random.seed(seed)

    def mark(self) -> Any:
        if self._address is None:
            return random.getstate()
        return ctypes.string_at(self._address, _MT19937_BYTES), self._owner.gauss_next

    def moved(self, mark: Any) -> bool:
        return self.mark() != mark

    def restore(self, mark: Any) -> None:
        if self._address is None:
            random.setstate(mark)
            return
        position, *words = _MEMORY.unpack(mark[0])
        random.setstate((3, (*words, position), mark[1]))

    def _find(self) -> int | None:
        """Where its position and words are in memory; None where they are not as in CPython."""
        _, state, _ = random.getstate()
        wanted = _MEMORY.pack(state[-1], *state[:-1])
        if sys.implementation.name != "cpython":
            return None
        for offset in range(object.__basicsize__, object.__basicsize__ + 32, 4):
            if ctypes.string_at(id(self._owner) + offset, _MT19937_BYTES) == wanted:
                return id(self._owner) + offset
        return None


class _Torch:
    def seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def mark(self) -> Any:
        return torch.default_generator.get_state()

    def moved(self, mark: Any) -> bool:
        return torch.default_generator.get_state().numpy().tobytes() != mark.numpy().tobytes()

    def restore(self, mark: Any) -> None:
        torch.default_generator.set_state(mark)


class _NumPy:
    """numpy's legacy generator; its public state takes 50 us to read, its memory half a microsecond."""

    def seed(self, seed: int) -> None:
        np.random.seed(seed % 2**32)

    def mark(self) -> Any:
        address = self._address()
        return np.random.get_state() if address is None else ctypes.string_at(address, _MT19937_BYTES)

    def moved(self, mark: Any) -> bool:
        now = self.mark()
        if isinstance(mark, bytes):
            return now != mark
        return now[2] != mark[2] or not np.array_equal(now[1], mark[1])

    def restore(self, mark: Any) -> None:
        address = self._address()
        if isinstance(mark, bytes) and address is not None:
            np.random.seed(0)  # forgets the second number of a pair of normal ones
            ctypes.memmove(address, mark, _MT19937_BYTES)
        elif not isinstance(mark, bytes):
            np.random.set_state(mark)

    @staticmethod
    def _address() -> int | None:
        """Where the state is in memory; None when somebody put another kind of generator there."""
        generator: Any = cast("Any", np.random).get_bit_generator()
        return generator.ctypes.state_address if type(generator).__name__ == "MT19937" else None


STREAMS: tuple[Stream, ...] = (_Python(), _NumPy(), _Torch())


class Seeded:
    """Runs code that may draw random numbers, each call in streams of its own.

    In the main process the global generators are afterwards as they were; in a loader's worker nobody
    else uses them.
    """

    def __init__(self) -> None:
        self._drawn: list[Stream] | None = None

    def run(
        self, call: Callable[[Any], Any], items: Sequence[Any], seed_of: Callable[[Any], int]
    ) -> list[Any]:
        """`call(item)` for each item, in the streams that begin at `seed_of(item)`."""
        if self._drawn is None:
            return self._learn(call, items, seed_of)
        here = get_worker_info() is None
        kept = [(stream, stream.mark()) for stream in self._drawn] if here else []
        watched = [(stream, stream.mark()) for stream in STREAMS if stream not in self._drawn]
        try:
            if self._drawn:
                results = [self._one(call, item, seed_of(item)) for item in items]
            else:
                results = [call(item) for item in items]
        finally:
            _put_back(kept)
        surprising = [(stream, mark) for stream, mark in watched if stream.moved(mark)]
        if not surprising:
            return results
        _put_back(surprising)
        self._drawn += [stream for stream, _ in surprising]
        return self.run(call, items, seed_of)

    def _one(self, call: Callable[[Any], Any], item: Any, seed: int) -> Any:
        for stream in self._drawn or ():
            stream.seed(seed)
        return call(item)

    def _learn(
        self, call: Callable[[Any], Any], items: Sequence[Any], seed_of: Callable[[Any], int]
    ) -> list[Any]:
        drawn: list[Stream] = []
        kept = [(stream, stream.mark()) for stream in STREAMS]
        results: list[Any] = []
        try:
            for item in items:
                seed = seed_of(item)
                for stream in STREAMS:
                    stream.seed(seed)
                marks = [(stream, stream.mark()) for stream in STREAMS if stream not in drawn]
                results.append(call(item))
                drawn += [stream for stream, mark in marks if stream.moved(mark)]
        finally:
            _put_back(kept)
        self._drawn = drawn
        return results


def _put_back(marks: Iterable[tuple[Stream, Any]]) -> None:
    for stream, mark in marks:
        stream.restore(mark)


class KeyedBatch(list[Any]):
    """Indices, or samples, of a batch, with the key from which their random numbers follow."""

    def __init__(self, items: Iterable[Any], key: int) -> None:
        super().__init__(items)
        self.key = key

    def __reduce__(self) -> Any:
        return KeyedBatch, (list(self), self.key)


class KeyedIndex(tuple[int, Any]):
    """(key, index) of a loader without batches."""

    __slots__ = ()


class SeededDataset(Dataset[Any]):
    """A map-style dataset whose random numbers depend on the epoch's key and the sample's index only.

    It is asked with `KeyedBatch` or `KeyedIndex`, and is otherwise like the dataset in it.
    """

    def __init__(self, dataset: Any) -> None:
        vars(self)["dataset"] = dataset
        vars(self)["_seeded"] = Seeded()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, KeyedIndex):
            return self.dataset[index]
        key, own = index
        return self._seeded.run(self.dataset.__getitem__, [own], _seeds_from(key))[0]

    def __getitems__(self, batch: Any) -> Any:
        indices, key = list(batch), batch.key
        many = getattr(self.dataset, "__getitems__", None)
        if many is not None:
            samples = self._seeded.run(many, [indices], _seeds_from(key, many=True))[0]
        else:
            samples = self._seeded.run(self.dataset.__getitem__, indices, _seeds_from(key))
        ends = (_number(index) for index in (indices[:1] + indices[-1:]))
        return KeyedBatch(samples, mix(key, len(indices), *ends))

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # A worker_init_fn that gives the dataset an open file means the user's dataset.
        setattr(self.dataset, name, value)

    def __reduce__(self) -> Any:
        return SeededDataset, (self.dataset,)


class SeededCollate:
    """A collate function whose random numbers depend on the batch only."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate
        self._seeded = Seeded()

    def __call__(self, samples: Any) -> Any:
        """Collate."""
        if not isinstance(samples, KeyedBatch):
            return self.collate(samples)
        key = samples.key
        return self._seeded.run(self.collate, [list(samples)], lambda _: key)[0]


def _seeds_from(key: int, many: bool = False) -> Callable[[Any], int]:
    """How a sample's seed, or that of many asked for at once, follows from the epoch's key."""

    def seed_of(item: Any) -> int:
        return mix(key, *map(_number, item)) if many else mix(key, _number(item))

    return seed_of


def draws_nothing(dataset: Any) -> bool:
    """Whether this kind of dataset certainly draws no random numbers."""
    kind = cast("type[Any]", type(dataset))
    if kind is Subset:
        return draws_nothing(dataset.dataset)
    if kind is ConcatDataset:
        return all(map(draws_nothing, dataset.datasets))
    if kind is StackDataset:
        parts: Any = dataset.datasets
        return all(map(draws_nothing, parts.values() if hasattr(parts, "values") else parts))
    return kind in _KNOWN_DATA


def collates_plainly(collate: Any) -> bool:
    """Whether it is one of torch's own collate functions, which draw no random numbers."""
    return collate in _KNOWN_COLLATE


def _number(index: Any) -> int:
    """The same number for the same index in every process, which `hash` of a text is not."""
    return index if isinstance(index, int) else zlib.crc32(repr(index).encode())
