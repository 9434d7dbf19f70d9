"""Loaders that know where they are: batches on the right device, and exact resume in mid-epoch."""

import random
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from blixt.fabric.errors import CheckpointError
from blixt.fabric.rng import isolate_rng
from blixt.fabric.samplers import with_parts
from blixt.fabric.tree import to_device
from blixt.fabric.workers import SeededDataset, mix


@runtime_checkable
class Stateful(Protocol):
    """Anything that can describe its position and go back to it."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a position."""
        ...


class ResumableLoader:
    """Any iterable of batches, with an exact position.

    How the position is kept depends on what is wrapped:

    - a loader with `state_dict` and `load_state_dict` is asked itself;
    - so is the dataset of a `DataLoader` over a stateful `IterableDataset` without workers;
    - the order of a map-style `DataLoader` follows from (seed, epoch), so the number of delivered batches
      is enough, with any number of workers, and resuming loads nothing twice;
    - anything else is run through up to the position, with a warning that says so.

    Args:
        loader: What to wrap.
        device: Where tensors of each batch go; None leaves them where they are.
        rank: Of this process; workers of different ranks draw different random numbers.
        seed: Of the shuffle; all ranks need the same one.
    """

    def __init__(
        self, loader: Iterable[Any], *, device: torch.device | None = None, rank: int = 0, seed: int = 0
    ) -> None:
        self.loader = loader
        self.device = None if device is None or device.type == "cpu" else device
        self.rank = rank
        self.seed = _own_seed(loader, seed)
        self.epoch = 0
        self.delivered = 0
        self._resuming = False
        self._keeper = _keeper_of(loader)
        self._order = _Order()
        self._map_style = map_style(loader) if self._keeper is None else None
        self._twin = _twin_of(self._map_style, self._order) if self._map_style is not None else None

    def __len__(self) -> int:
        """Number of batches in an epoch; TypeError when nobody knows."""
        return len(cast("Any", self.loader))

    def __iter__(self) -> Iterator[Any]:
        skip = self.delivered if self._resuming else 0
        self._announce_epoch(but=self._keeper if self._resuming else None)
        self._resuming = False
        self.delivered = skip
        device = self.device
        for batch in self._open(skip):
            self.delivered += 1
            yield batch if device is None else to_device(batch, device)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs; the shuffle depends on it."""
        if not self._resuming:
            self.epoch = epoch

    def end_epoch(self) -> None:
        """Say that the epoch is over, so that the position is the beginning of the next."""
        self.epoch += 1
        self.delivered = 0
        self._resuming = False

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches delivered so far."""
        state: dict[str, Any] = {"seed": self.seed, "epoch": self.epoch, "batches": self.delivered}
        if self._keeper is not None:
            state["inner"] = self._keeper.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next iteration begin at that position."""
        self.seed, self.epoch = state_dict["seed"], state_dict["epoch"]
        self.delivered = state_dict["batches"]
        self._resuming = self.delivered > 0
        if self._keeper is not None:
            if "inner" not in state_dict:
                raise CheckpointError(
                    "The checkpoint was saved with another kind of data loader, so its position means "
                    "nothing to this one. Use the same loader, or begin anew without the loader's state."
                )
            self._keeper.load_state_dict(state_dict["inner"])

    def _announce_epoch(self, but: object) -> None:
        """Tell every part that wants to know which epoch begins, `but` one that goes on inside it."""
        loader = cast("Any", self.loader)
        parts = [loader]
        if isinstance(self.loader, DataLoader):
            parts += [loader.sampler, loader.batch_sampler, loader.dataset]
        for part in parts:
            if part is not but and hasattr(part, "set_epoch"):
                part.set_epoch(self.epoch)

    def _open(self, skip: int) -> Iterator[Any]:
        if self._map_style is not None and self._twin is not None:
            return self._open_map_style(self._map_style, self._twin, skip)
        with isolate_rng():
            self._seed_generators(0)
            batches = iter(self.loader)
            if skip and self._keeper is None:
                _warn_of_fast_forward(self.loader, skip)
                next(islice(batches, skip - 1, skip), None)
        return batches

    def _open_map_style(self, loader: DataLoader[Any], twin: DataLoader[Any], skip: int) -> Iterator[Any]:
        """An iterator that begins after `skip` batches, without loading them.

        Everything random about the order is drawn here, from generators seeded by (seed, epoch), and
        leaves no trace in the generators of the process.
        """
        with isolate_rng():
            self._seed_generators(0)
            for generator in _generators_of(loader):
                generator.manual_seed(mix(self.seed, self.epoch, 0))
            order = iter(cast("Iterable[Any]", getattr(loader, _level(loader))))
            next(islice(order, skip, skip), None)
            self._order.current = chain(list(islice(order, 1)), order)
            self._seed_generators(1 + self.rank)
            return iter(twin)

    def _seed_generators(self, salt: int) -> None:
        seed = mix(self.seed, self.epoch, salt)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)


class _Order:
    """What a twin loader reads in place of its sampler: the order of the current epoch."""

    current: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self.current


def map_style(loader: Iterable[Any]) -> DataLoader[Any] | None:
    """`loader` if it is a `DataLoader` that asks its dataset for samples by index."""
    if isinstance(loader, DataLoader):
        indexed = cast("DataLoader[Any]", loader)
        return None if isinstance(indexed.dataset, IterableDataset) else indexed
    return None


def _level(loader: DataLoader[Any]) -> str:
    """Which part of the loader decides what each batch holds."""
    return "batch_sampler" if cast("Any", loader).batch_sampler is not None else "sampler"


def _twin_of(loader: DataLoader[Any], order: _Order) -> DataLoader[Any]:
    """A copy of `loader` that follows `order`.

    Persistent workers keep their first seed for good, so seeding by sample would repeat the same
    augmentation every epoch; theirs stays as torch makes it.
    """
    parts: dict[str, Any] = {_level(loader): order}
    if loader.num_workers > 0 and not loader.persistent_workers:
        parts["dataset"] = SeededDataset(loader.dataset)
    return with_parts(loader, **parts)


def _generators_of(loader: DataLoader[Any]) -> list[torch.Generator]:
    """The generators that the user gave to the loader or its sampler."""
    parts = cast("Any", loader)
    candidates = (parts.generator, getattr(parts.sampler, "generator", None))
    return [generator for generator in candidates if isinstance(generator, torch.Generator)]


def _own_seed(loader: Iterable[Any], seed: int) -> int:
    """The seed of the generator that the user gave to the loader, else `seed`."""
    own = _generators_of(cast("DataLoader[Any]", loader)) if isinstance(loader, DataLoader) else []
    return own[0].initial_seed() if own else seed


def _warn_of_fast_forward(loader: object, skip: int) -> None:
    warnings.warn(
        f"{type(loader).__name__} cannot tell its position: {skip} batches are loaded and thrown away to "
        "resume. Give it state_dict and load_state_dict to avoid that.",
        stacklevel=2,
    )


def _keeper_of(loader: Iterable[Any]) -> Stateful | None:
    """Who can tell the position in `loader` without being run through."""
    if isinstance(loader, Stateful):
        return loader
    if isinstance(loader, DataLoader) and loader.num_workers == 0:
        dataset = cast("Any", loader).dataset
        if isinstance(dataset, IterableDataset) and isinstance(dataset, Stateful):
            return dataset
    return None
