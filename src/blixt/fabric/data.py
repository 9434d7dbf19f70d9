"""Loaders that know where they are: batches on the right device, and exact resume in mid-epoch."""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch.utils.data import DataLoader, IterableDataset

from blixt.fabric.data_device import to_device_ahead
from blixt.fabric.data_order import Order, Start, own_copy
from blixt.fabric.errors import CheckpointError, ConfigError
from blixt.fabric.rng import capture_rng, global_seed, isolate_rng, restore_rng
from blixt.fabric.tree import to_device


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

    The position is that of the batch delivered last, whatever workers have fetched ahead. How it is kept
    depends on what is wrapped:

    - a loader with `state_dict` and `load_state_dict` (torchdata's `StatefulDataLoader`) is asked itself;
    - so is the dataset of a `DataLoader` over a stateful `IterableDataset` without workers;
    - of a map-style `DataLoader` the order is drawn again and what was done passed over unloaded, with any
      number of workers and, where ranks share the dataset, with any number of ranks;
    - anything else is run through up to the position, with a warning that states the cost.

    Random numbers that a map-style dataset or a collate function draws depend on the epoch and the
    samples only, so that any number of workers, or none, gives the same batches.

    Iterating to the end ends the epoch; beginning anew after a break begins the next one.

    Args:
        loader: What to wrap.
        device: Where tensors of each batch go; None leaves them where they are.
        rank: Of this process.
        seed: Of the shuffle that ranks share; default that of `seed_everything`.

    Attributes:
        epoch: The running or coming one.
        delivered: Batches of it that were handed out.
        keep_indices: Fill `indices`; set it before iterating.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        *,
        device: torch.device | None = None,
        rank: int = 0,
        seed: int | None = None,
    ) -> None:
        self.loader = loader
        self.device = None if device is None or device.type == "cpu" else device
        self.rank = rank
        self.seed = global_seed() if seed is None else seed
        self.epoch = 0
        self.delivered = 0
        self.keep_indices = False
        self.indices: list[Any] | None = None
        self._begun = False
        self._resuming = False
        self._offset = 0
        self._skipped = 0
        self._start: Start | None = None
        self._keeper = _keeper_of(loader)
        indexed = map_style(loader) if self._keeper is None else None
        self._order = Order(indexed) if indexed is not None else None

    def __len__(self) -> int:
        """Number of batches in an epoch; TypeError when nobody knows."""
        return len(cast("Any", self.loader))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        resuming, self._resuming = self._resuming, False
        if self._begun and not resuming:
            self._next_epoch()
        self._begun = True
        self._announce_epoch(but=self._keeper if resuming else None)
        batches = self._moved(self._reopen() if resuming else self._open())
        indices = self._order.indices if self._order is not None else None
        for batch in batches:
            self.delivered += 1
            if indices is not None:
                self.indices = indices.popleft()
            yield batch
        self._next_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs; the shuffle that ranks share depends on it."""
        if not self._resuming:
            self._next_epoch()
            self.epoch = epoch

    def end_epoch(self) -> None:
        """Say that the epoch is over, so that the position is the beginning of the next.

        An iteration that came to its end has said so already.
        """
        if self._begun or self._resuming:
            self._next_epoch()

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches delivered so far, as plain values."""
        state: dict[str, Any] = {"seed": self.seed, "epoch": self.epoch, "batches": self.delivered}
        order = self._order
        if order is not None:
            state["done"] = self._offset + (self.delivered - self._skipped) * order.unit
            state["world_size"] = order.world_size
            state["warm"] = order.warm
            state["generators"] = [generator.get_state() for generator in order.generators()]
        if self._start is not None and self.delivered:
            state["start"] = self._start
        if self._keeper is not None:
            state["inner"] = own_copy(self._keeper.state_dict())
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next iteration begin at that position.

        Among ranks that share the dataset their number may have changed: the order goes on where all of
        them together were. `delivered` is then counted in batches as they are now.
        """
        self.seed, self.epoch = state_dict["seed"], state_dict["epoch"]
        self.delivered = state_dict["batches"]
        self._begun = False
        self._resuming = self.delivered > 0
        self._start, self._offset, self._skipped = state_dict.get("start"), 0, 0
        if self._keeper is not None:
            if "inner" not in state_dict:
                raise CheckpointError(
                    "The checkpoint was saved with another kind of data loader, so its position means "
                    "nothing to this one. Use the same loader, or begin anew without the loader's state."
                )
            self._keeper.load_state_dict(own_copy(state_dict["inner"]))
        elif self._order is not None:
            self._place(self._order, state_dict)

    def close(self) -> None:
        """End the workers that the loader keeps between epochs."""
        loader: Any = self.loader
        if self._order is not None:
            self._order.warm, loader = self._order.warm, self._order.twin
        if isinstance(loader, DataLoader):
            vars(cast("object", loader))["_iterator"] = None

    # --- inside ----------------------------------------------------------------------------------

    def _place(self, order: Order, state: dict[str, Any]) -> None:
        order.warm = state.get("warm", False)
        if not self._resuming:
            for generator, own in zip(order.generators(), state.get("generators", ()), strict=False):
                generator.set_state(own)
            return
        self._offset = state.get("done", self.delivered * order.unit)
        left = order.remaining(self._offset)
        if left is not None and state.get("world_size", 1) != order.world_size:
            self.delivered = max(0, (order.remaining(0) or 0) - left)
        self._skipped = self.delivered

    def _next_epoch(self) -> None:
        self.epoch += self._begun or self._resuming
        self.delivered = self._offset = self._skipped = 0
        self._start = None
        self._begun = self._resuming = False

    def _announce_epoch(self, but: object) -> None:
        """Tell every part that wants to know which epoch begins, `but` one that goes on inside it."""
        loader = cast("Any", self.loader)
        parts = [loader]
        if isinstance(self.loader, DataLoader):
            batches = loader.batch_sampler
            parts += [loader.sampler, batches, getattr(batches, "sampler", None), loader.dataset]
        for part in {id(part): part for part in parts}.values():
            if part is not but and hasattr(part, "set_epoch"):
                part.set_epoch(self.epoch)

    def _open(self) -> Iterator[Any]:
        if self._order is None:
            self._start = {"rng": capture_rng()} if self._keeper is None else None
            return iter(self.loader)
        self._order.indices = deque() if self.keep_indices else None
        self._start = self._order.start(self.seed, self.epoch)
        return self._order.open(self._start, 0)

    def _reopen(self) -> Iterator[Any]:
        start = self._start or {"seed": self.seed, "epoch": self.epoch}
        if self._order is not None:
            self._order.indices = deque() if self.keep_indices else None
            return self._order.reopen(start, self._offset)
        with isolate_rng():
            if "rng" in start:
                restore_rng(start["rng"])
            batches = iter(self.loader)
            if self._keeper is None:
                _warn_of_fast_forward(self.loader, self.delivered)
                next(islice(batches, self.delivered - 1, self.delivered), None)
        return batches

    def _moved(self, batches: Iterator[Any]) -> Iterator[Any]:
        device = self.device
        if device is None:
            return batches
        if device.type == "cuda" and self._order is not None:
            return to_device_ahead(batches, device)
        return (to_device(batch, device) for batch in batches)


def suggested_max_num_workers(local_world_size: int) -> int:
    """How many workers a loader should have at most, if this machine's processes share its cores.

    Args:
        local_world_size: Training processes on this machine.

    Example:
        >>> suggested_max_num_workers(10_000)
        1
    """
    if local_world_size < 1:
        reason = "there is at least one process"
        raise ConfigError(
            "suggested_max_num_workers(local_world_size)", local_world_size, reason, "Use 1 or more"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // local_world_size - 1)


def map_style(loader: Iterable[Any]) -> DataLoader[Any] | None:
    """`loader` if it is a `DataLoader` that asks its dataset for samples by index."""
    if isinstance(loader, DataLoader):
        indexed = cast("DataLoader[Any]", loader)
        return None if isinstance(indexed.dataset, IterableDataset) else indexed
    return None


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
