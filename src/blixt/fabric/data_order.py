"""In which order a map-style loader asks for its samples, and how to get there again.

The order of an epoch follows from the generators' states at its beginning. One process alone draws as
torch does, so a seeded script gets the numbers it gets without blixt; ranks that share a dataset draw from
(seed, epoch), as `DistributedSampler` does, because they need the same order. Either is kept as a small
dict, and going on inside an epoch is: draw the same order, pass over what was done.
"""

import copy
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from blixt.fabric.rng import capture_rng, isolate_rng, restore_rng
from blixt.fabric.samplers import ShardBatchSampler, ShardSampler, is_plain, rebatched, with_parts
from blixt.fabric.workers import (
    STREAMS,
    KeyedBatch,
    KeyedIndex,
    SeededCollate,
    SeededDataset,
    collates_plainly,
    draws_nothing,
    mix,
)

Start = dict[str, Any]
_DRAW_AT_ONCE = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


class Order:
    """The order of one loader's samples, and a copy of the loader that follows it.

    Args:
        loader: A map-style loader, divided among the ranks already.
        world_size: Ranks that share it; 1 if it is not divided.

    Attributes:
        unit: In what a position counts: samples of all ranks per batch of this one, or whole batches.
        indices: Of the samples in each batch that was handed out and not delivered yet; None unless wanted.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        parts = cast("Any", loader)
        self.loader = loader
        self._batches: Any = parts.batch_sampler
        self._sampler: Any = parts.sampler
        self._by_batch = self._batches is not None and not is_plain(self._batches)
        self.shard: Any = self._find_shard()
        self.world_size: int = self.shard.world_size if self.shard is not None else 1
        own_size = 1 if self._batches is None or self._by_batch else int(self._batches.batch_size)
        self.unit = own_size * self.world_size
        self.indices: deque[list[Any]] | None = None
        self._seeds_samples = not draws_nothing(parts.dataset) or not collates_plainly(parts.collate_fn)
        self._key = 0
        self._current = _Primed(iter(()))
        self._was_warm = False
        self.twin = self._make_twin()

    @property
    def base(self) -> Any:
        """What decides the order of the whole dataset."""
        if isinstance(self.shard, ShardSampler):
            return self.shard.order
        if isinstance(self.shard, ShardBatchSampler):
            return self.shard.batches
        return self._batches if self._by_batch else self._sampler

    @property
    def warm(self) -> bool:
        """Whether persistent workers have been started, here or before the position that was loaded."""
        return self._was_warm or self._workers is not None

    @warm.setter
    def warm(self, value: bool) -> None:
        self._was_warm = value

    def start(self, seed: int, epoch: int) -> Start:
        """How the coming epoch's order is going to be drawn."""
        start: Start = {
            "generators": [generator.get_state() for generator in self.generators()],
            "key": mix(seed, epoch),
            "warm": self.warm,
        }
        keeps_state = all(hasattr(self.base, name) for name in ("state_dict", "load_state_dict"))
        if keeps_state:
            start["sampler"] = copy.deepcopy(self.base.state_dict())
        if self.shard is not None:
            return {**start, "seed": seed, "epoch": epoch}
        state = torch.get_rng_state()
        start["key"] = mix(zlib.crc32(state.numpy().tobytes()), epoch)
        return {**start, "torch": state} if self._known() else {**start, "rng": capture_rng()}

    def open(self, start: Start, done: int) -> Iterator[Any]:
        """Batches of the epoch that begins as `start` says, after `done` units of it."""
        if self.indices is not None:
            self.indices.clear()
        self._key = start.get("key", 0)
        if start.get("warm") and self._workers is None:
            self._warm_up()
        self._current = _Primed(self._follow(done))
        if "seed" in start:
            with self._seeded(start["seed"], start["epoch"]):
                self._current.prime()
        return iter(self.twin)

    def reopen(self, start: Start, done: int) -> Iterator[Any]:
        """The same in another process: whatever it draws is drawn from the states in `start`."""
        for generator, state in zip(self.generators(), start.get("generators", ()), strict=False):
            generator.set_state(state)
        if "sampler" in start:
            self.base.load_state_dict(start["sampler"])
        with isolate_rng():
            if "rng" in start:
                restore_rng(start["rng"])
            elif "torch" in start:
                torch.set_rng_state(start["torch"])
            batches = self.open(start, done)
            self._current.prime()
        return batches

    @property
    def _workers(self) -> Any:
        """The iterator that torch keeps, with its workers, when they are persistent."""
        return vars(self.twin).get("_iterator")

    def _warm_up(self) -> None:
        """Start persistent workers, which ran before the interruption: torch draws a number only for that."""
        with isolate_rng():
            self._current = _Primed(iter(()))
            iter(self.twin)

    def remaining(self, done: int) -> int | None:
        """Batches that this rank still has after `done` units; None when nobody knows."""
        try:
            total = len(self.base)
        except (TypeError, NotImplementedError):
            return None
        left = max(0, total - done)
        if self._batches is not None and not self._by_batch and self._batches.drop_last:
            return -(-left // self.world_size) // (self.unit // self.world_size)
        return -(-left // self.unit)

    def generators(self) -> list[torch.Generator]:
        """The generators that the user gave to the loader or its sampler."""
        base = self.base
        places = (cast("Any", self.loader).generator, getattr(base, "generator", None))
        inner = getattr(getattr(base, "sampler", None), "generator", None)
        found = [each for each in (*places, inner) if isinstance(each, torch.Generator)]
        return list({id(each): each for each in found}.values())

    def __iter__(self) -> Iterator[Any]:
        """For the twin, which has this in place of its sampler."""
        return self._current

    # --- inside ----------------------------------------------------------------------------------

    def _find_shard(self) -> Any:
        for part in (self._batches, self._sampler):
            if isinstance(part, (ShardBatchSampler, ShardSampler)):
                return part
        return None

    def _make_twin(self) -> DataLoader[Any]:
        parts: dict[str, Any] = {"batch_sampler" if self._batches is not None else "sampler": self}
        if self._seeds_samples:
            dataset, collate = self.loader.dataset, cast("Any", self.loader).collate_fn
            parts["dataset"] = SeededDataset(dataset)
            if self._batches is not None and not collates_plainly(collate):
                parts["collate_fn"] = SeededCollate(collate)
        return with_parts(self.loader, **parts)

    def _follow(self, done: int) -> Iterator[Any]:
        """What the loader fetches, in order; nothing is drawn before the first is asked for."""
        batched = self._batches is not None
        for item in self._undone(done):
            if self.indices is not None:
                self.indices.append(list(item) if batched else [item])
            if not self._seeds_samples:
                yield item
            else:
                yield KeyedBatch(item, self._key) if batched else KeyedIndex((self._key, item))

    def _undone(self, done: int) -> Iterator[Any]:
        if self.shard is not None:
            rest = self.shard.rest(done)
        else:
            whole = self._batches if self._by_batch else self._sampler
            rest = islice(iter(whole), done, None)
        if self._batches is not None and not self._by_batch:
            rest = iter(rebatched(self._batches, cast("Any", _Once(rest))))
        return rest if self._known() else _in_own_streams(rest)

    def _known(self) -> bool:
        """Whether the order is drawn at its beginning, and from torch's generators only."""
        return type(self.base) in _DRAW_AT_ONCE

    @contextmanager
    def _seeded(self, seed: int, epoch: int) -> Generator[None]:
        """Draw from (seed, epoch), and leave no trace in this process's generators."""
        base: Any = self.base
        lent = torch.Generator()
        for generator in self.generators():
            generator.manual_seed(seed + epoch)
        with isolate_rng():
            for stream in STREAMS:
                stream.seed(mix(seed, epoch))
            borrows = type(cast("object", base)) is RandomSampler and base.generator is None
            if borrows:
                base.generator = lent.manual_seed(seed + epoch)
            try:
                yield
            finally:
                if borrows:
                    base.generator = None


class _Primed:
    """An iterator that can be made to draw what it draws at its beginning before anybody asks for it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._first: list[Any] = []

    def prime(self) -> None:
        """Take the first item now, once."""
        if not self._first:
            self._first = list(islice(self._items, 1))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._first.pop() if self._first else next(self._items)


class _Once:
    """Indices to be cut into batches."""

    def __init__(self, indices: Iterator[Any]) -> None:
        self._indices = indices

    def __iter__(self) -> Iterator[Any]:
        return self._indices


def _in_own_streams(items: Iterator[Any]) -> Iterator[Any]:
    """Let a sampler that draws as it goes do so apart from the rest of the process.

    Otherwise its order would depend on what training draws in between, and could not be had again.
    """
    first = list(islice(items, 1))
    own = [stream.mark() for stream in STREAMS]
    yield from first
    while True:
        kept = [stream.mark() for stream in STREAMS]
        for stream, mark in zip(STREAMS, own, strict=True):
            stream.restore(mark)
        try:
            more = list(islice(items, 1))
            own = [stream.mark() for stream in STREAMS]
        finally:
            for stream, mark in zip(STREAMS, kept, strict=True):
                stream.restore(mark)
        if not more:
            return
        yield more[0]


def own_copy(state: Any) -> Any:
    """A state that later changes of its owner do not reach."""
    return copy.deepcopy(state)
