"""What a stage iterates over when one plain loader is not enough: batches with an exact position.

`CombinedBatches` draws from several loaders. `AheadBatches` is for data whose end nobody knows before: it
fetches one batch ahead, so that the last one is known to be the last while it is trained on.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from blixt.fabric import ResumableLoader, capture_rng, isolate_rng, restore_rng
from blixt.fabric.workers import mix
from blixt.trainer.combined_modes import Course, Mode, draw

State = dict[str, Any]
_NONE = object()


class Batches(Protocol):
    """Batches with an exact position; a `ResumableLoader` is one already."""

    @property
    def delivered(self) -> int:
        """Batches of this epoch that were handed out."""
        ...

    def __iter__(self) -> Iterator[Any]: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs."""
        ...

    def end_epoch(self) -> None:
        """Say that the epoch is over."""
        ...

    def state_dict(self) -> State:
        """The position after the batches delivered so far."""
        ...

    def load_state_dict(self, state_dict: State) -> None:
        """Make the next iteration begin at that position."""
        ...


class CombinedBatches:
    """Several resumable loaders, drawn from in a mode; each round of a loader has an order of its own.

    Args:
        loaders: One each.
        mode: See `CombinedLoader`.
        arrange: Puts one batch of each loader together; unused in "sequential".
        limits: Batches of each loader that "sequential" takes at most.
        world_size: Processes that share the data.
    """

    def __init__(
        self,
        loaders: Sequence[ResumableLoader],
        mode: Mode,
        arrange: Callable[[list[Any]], Any],
        limits: Sequence[float],
        world_size: int = 1,
    ) -> None:
        self.loaders = list(loaders)
        self.mode: Mode = mode
        self.delivered = 0
        self.loader_index = 0
        self._arrange = arrange
        self._limits = limits
        self._world_size = world_size
        self.seeds = [loader.seed for loader in loaders]
        self._course = Course.begin(len(loaders))
        self._resuming = False

    def __iter__(self) -> Iterator[Any]:
        if not self._resuming:
            self._course, self.delivered = Course.begin(len(self.loaders)), 0
        self._resuming = False
        one_at_a_time = self.mode == "sequential"
        for batches, _, loader in draw(self.mode, self._open, self._limits, self._course):
            self.delivered += 1
            self.loader_index = loader
            yield batches if one_at_a_time else self._arrange(batches)

    def _open(self, index: int) -> Iterator[Any]:
        loader, turn = self.loaders[index], self._course.rounds[index]
        loader.seed = mix(self.seeds[index], turn) if turn else self.seeds[index]
        return iter(loader)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs."""
        for loader in self.loaders:
            loader.set_epoch(epoch)

    def end_epoch(self) -> None:
        """Say that the epoch is over, so that the position is the beginning of the next."""
        self.delivered, self._resuming = 0, False
        self._course = Course.begin(len(self.loaders))
        for loader, seed in zip(self.loaders, self.seeds, strict=True):
            loader.seed = seed
            loader.end_epoch()

    def state_dict(self) -> State:
        """The position after the batches delivered so far."""
        return {
            "loaders": [loader.state_dict() for loader in self.loaders],
            "seeds": list(self.seeds),
            "batches": self.delivered,
            "mode": self.mode,
            "world_size": self._world_size,
            **self._course.state_dict(),
        }

    def load_state_dict(self, state_dict: State) -> None:
        """Make the next iteration begin at that position."""
        before = state_dict.get("world_size", self._world_size)
        self.delivered = state_dict["batches"] * before // self._world_size
        count = len(self.loaders)
        self.seeds = list(state_dict.get("seeds", self.seeds))
        self._course = Course(
            index=state_dict.get("index", self.delivered) * before // self._world_size,
            current=state_dict.get("current", 0),
            rounds=list(state_dict.get("rounds", [0] * count)),
            ended=list(state_dict.get("ended", [False] * count)),
        )
        self._resuming = self.delivered > 0
        over = self._over()
        for index, (loader, state) in enumerate(zip(self.loaders, state_dict["loaders"], strict=True)):
            loader.load_state_dict(state)
            if over[index]:  # nothing of it is drawn any more, so its next iteration is the next epoch's
                loader.end_epoch()

    def _over(self) -> list[bool]:
        if self.mode == "sequential":
            return [index < self._course.current for index in range(len(self.loaders))]
        return [self.mode == "max_size" and ended for ended in self._course.ended]

    def close(self) -> None:
        """End the running iterations and their workers."""
        for loader in self.loaders:
            close(loader)


class Around:
    """What stands around other batches."""

    batches: Batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs."""
        self.batches.set_epoch(epoch)

    def close(self) -> None:
        """End the running iteration and its workers."""
        close(self.batches)


class AheadBatches(Around):
    """Batches, fetched one ahead: `last` is True while the last one is out.

    The position is that of the batch handed out last, and so are the random numbers: what fetching ahead
    draws from the generators of this process is drawn once more, alike, after a resume.

    Args:
        batches: Where they come from.
        limit: Stop after so many; None for all.
        left: With several processes, whether all of them have one more batch: they end together.
        draws: Whether fetching can draw from this process's generators.
    """

    def __init__(
        self, batches: Batches, limit: int | None, left: Callable[[bool], bool] | None, draws: bool
    ) -> None:
        self.batches = batches
        self.delivered = 0
        self.last = False
        self._limit = limit
        self._left = left
        self._draws = draws
        self._state: State | None = None
        self._numbers: _Numbers | None = None
        self._resuming = False

    @property
    def loader_index(self) -> int:
        """Which loader the batch came from, in "sequential" mode."""
        return getattr(self.batches, "loader_index", 0)

    def __iter__(self) -> Iterator[Any]:
        if not self._resuming:
            self.delivered = 0
        self._resuming = self.last = False
        limit = self._limit
        if limit is not None and self.delivered >= limit:
            return
        source = iter(self.batches)
        held = self._first(source)
        while held:
            batch = held.pop()
            self._state = self.batches.state_dict()
            self._numbers = _Numbers() if self._draws else None
            if limit is None or self.delivered + 1 < limit:
                held = self._fetch(source)
            self.last = not held
            self.delivered += 1
            yield batch

    def _first(self, source: Iterator[Any]) -> list[Any]:
        """The first batch; after a resume with the numbers that were there when it was fetched before."""
        numbers, self._numbers = self._numbers, None
        if numbers is None:
            return self._fetch(source)
        with isolate_rng():
            numbers.put_back()
            return self._fetch(source)

    def _fetch(self, source: Iterator[Any]) -> list[Any]:
        """The next batch in a list, or none when this process, or another, is at its end."""
        batch = next(source, _NONE)
        if self._left is not None and not self._left(batch is not _NONE):
            return []
        return [] if batch is _NONE else [batch]

    def end_epoch(self) -> None:
        """Say that the epoch is over, so that the position is the beginning of the next."""
        self.batches.end_epoch()
        self.delivered, self._resuming = 0, False
        self._state, self._numbers = None, None

    def state_dict(self) -> State:
        """The position after the batches handed out so far."""
        if self._state is None:
            return self.batches.state_dict()
        return (
            {**self._state, "ahead": self._numbers.as_state()} if self._numbers is not None else self._state
        )

    def load_state_dict(self, state_dict: State) -> None:
        """Make the next iteration begin at that position."""
        self.batches.load_state_dict({name: value for name, value in state_dict.items() if name != "ahead"})
        self.delivered = self.batches.delivered
        self._resuming = self.delivered > 0
        numbers = state_dict.get("ahead")
        self._state, self._numbers = None, None if numbers is None else _Numbers.of(numbers)


class _Numbers:
    """The random numbers of this process at one moment; taking them costs half of what a plain form costs."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy: Any = np.random.get_state()
        self._torch = torch.get_rng_state()

    @classmethod
    def of(cls, state: State) -> "_Numbers":
        """Those that `as_state` wrote down."""
        with isolate_rng():
            restore_rng(state)
            return cls()

    def put_back(self) -> None:
        """Let the generators go on from here."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)

    def as_state(self) -> State:
        """As plain values."""
        with isolate_rng():
            self.put_back()
            return capture_rng()


def close(batches: Any) -> None:
    """End whatever iteration runs, with its workers, where that is possible."""
    if hasattr(batches, "close"):
        batches.close()


def seeds_of(batches: Any) -> list[int]:
    """The seeds that order the loaders in `batches`."""
    if isinstance(batches, Around):
        return seeds_of(batches.batches)
    return list(batches.seeds) if isinstance(batches, CombinedBatches) else [batches.seed]


def reseed(batches: Any, seeds: Sequence[int]) -> None:
    """Order the loaders in `batches` as those were ordered from which `seeds_of` got the seeds."""
    if isinstance(batches, Around):
        reseed(batches.batches, seeds)
    elif isinstance(batches, CombinedBatches):
        batches.seeds = list(seeds)
    elif seeds:
        batches.seed = seeds[0]


def settle(batches: Any, state: Mapping[str, Any], *, at_end: bool) -> None:
    """Let loaders that keep their own position see that they are at their end, so that they begin anew.

    Such a loader gives nothing when it is iterated from a state that was taken at its end, and the next epoch
    only after that.

    Args:
        batches: What has loaded `state`.
        state: Taken at the end of an epoch (`at_end`), or, if it counts no batches, between two.
        at_end: Whether all batches have been delivered.
    """
    if isinstance(batches, Around):
        settle(batches.batches, state, at_end=at_end)
    elif isinstance(batches, CombinedBatches):
        for loader, each in zip(batches.loaders, state["loaders"], strict=True):
            settle(loader, each, at_end=at_end)
    elif "inner" in state and (at_end or state["batches"] == 0):
        first = next(iter(batches), _NONE)
        if first is not _NONE and not at_end:
            batches.load_state_dict(state)
