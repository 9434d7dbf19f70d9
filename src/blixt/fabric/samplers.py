"""Which samples of a map-style dataset a rank sees."""

import copy
import math
from collections.abc import Iterable, Iterator, Sized
from itertools import chain, cycle, islice
from typing import Any, cast

from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, Sampler

from blixt.fabric.errors import ConfigError


class ShardSampler(DistributedSampler[int]):
    """Every `world_size`-th index of an order that all ranks share, beginning at `rank`.

    It is a `DistributedSampler` for those who ask, and unlike torch's it divides any sampler.

    Args:
        order: The sampler of the whole dataset; it must give every rank the same order.
        rank: This process.
        world_size: Number of processes.
        even: Repeat the first indices so that all ranks get equally many, which training in lockstep
            needs. Evaluation leaves the last round uneven, so that no sample counts twice.
    """

    def __init__(self, order: Iterable[int], rank: int, world_size: int, *, even: bool) -> None:
        # Not torch's constructor, which asks for the dataset: these are what people read from one.
        self.order = order
        self.rank = rank
        self.world_size = self.num_replicas = world_size
        self.even = even
        self.dataset: Any = getattr(order, "data_source", order)
        self.shuffle = type(order).__name__ not in ("SequentialSampler", "range", "list")
        self.drop_last = False
        self.seed = 0
        self.epoch = 0

    @property
    def num_samples(self) -> int:  # type: ignore[override] - torch keeps it as an attribute
        """Samples of this rank."""
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Samples of all ranks, with those that are repeated."""
        total = len(cast("Sized", self.order))
        return math.ceil(total / self.world_size) * self.world_size if self.even else total

    def __len__(self) -> int:
        total = len(cast("Sized", self.order))
        if self.even:
            return -(-total // self.world_size)
        return len(range(self.rank, total, self.world_size))

    def __iter__(self) -> Iterator[int]:
        return self.rest(0)

    def rest(self, done: int) -> Iterator[int]:
        """This rank's indices after the first `done` of the order, however many ranks did those."""
        if not self.even:
            return islice(iter(self.order), done + self.rank, None, self.world_size)
        return self._padded_rest(done)

    def _padded_rest(self, done: int) -> Iterator[int]:
        indices = list(self.order)
        missing = -(len(indices) - done) % self.world_size if done < len(indices) else 0
        padded = chain(indices, islice(cycle(indices), missing))
        yield from islice(padded, done + self.rank, None, self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to an order that wants to know it."""
        self.epoch = epoch
        if hasattr(self.order, "set_epoch"):
            cast("Any", self.order).set_epoch(epoch)


class ShardBatchSampler(Sampler[list[int]]):
    """Every `world_size`-th batch of a batch sampler that all ranks share.

    So the batches stay as its author made them, of samples of like length for instance.

    Args:
        batches: The batch sampler of the whole dataset.
        rank: This process.
        world_size: Number of processes.
        even: Repeat the first batches so that all ranks get equally many.
    """

    def __init__(self, batches: Iterable[list[int]], rank: int, world_size: int, *, even: bool) -> None:
        self.batches = batches
        self.rank = rank
        self.world_size = world_size
        self.even = even

    @property
    def batch_size(self) -> Any:
        """That of the batch sampler."""
        return getattr(self.batches, "batch_size", None)

    @property
    def drop_last(self) -> Any:
        """That of the batch sampler."""
        return getattr(self.batches, "drop_last", False)

    def __len__(self) -> int:
        total = len(cast("Sized", self.batches))
        if self.even:
            return -(-total // self.world_size)
        return len(range(self.rank, total, self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        return self.rest(0)

    def rest(self, done: int) -> Iterator[list[int]]:
        """This rank's batches after the first `done` of all."""
        first: list[list[int]] = []
        position, given = -1, 0
        for position, batch in enumerate(self.batches):
            if len(first) < self.world_size:
                first.append(batch)
            if position >= done and (position - done) % self.world_size == self.rank:
                given += 1
                yield batch
        remaining = position + 1 - done
        if self.even and remaining > 0 and given < -(-remaining // self.world_size):
            yield first[(given * self.world_size + self.rank - remaining) % len(first)]

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to whoever wants to know it."""
        for part in (self.batches, getattr(self.batches, "sampler", None)):
            if hasattr(part, "set_epoch"):
                cast("Any", part).set_epoch(epoch)


class SteadyBatchSampler(BatchSampler):
    """As many batches on every rank, each sample at most once.

    The ranks' uneven shares differ by at most one sample. Where that sample would be a batch of its own it
    joins the one before, which then is larger than `batch_size` by one; with `drop_last`, where it would
    complete a batch that others have not, that batch is left out.

    Args:
        share: This rank's samples.
        batch_size: Samples of a batch.
        drop_last: Leave out what is no whole batch.
    """

    def __init__(self, share: ShardSampler, batch_size: int, drop_last: bool) -> None:
        super().__init__(share, batch_size, drop_last)
        self.share = share

    def __len__(self) -> int:
        least = self._least()
        return least // self.batch_size if self.drop_last else -(-least // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        if not len(self):
            return
        size, surplus = self.batch_size, len(self.share) > self._least()
        joins = surplus and not self.drop_last and len(self.share) % size == 1 % size
        drops = surplus and self.drop_last and len(self.share) % size == 0
        indices = iter(cast("Iterable[int]", self.sampler))
        batch, after = list(islice(indices, size)), list(islice(indices, size))
        while after:
            if joins and len(after) == 1:
                batch, after = batch + after, list(islice(indices, size))
                joins = False
                continue
            yield batch
            batch, after = after, list(islice(indices, size))
        if batch and not (drops or (self.drop_last and len(batch) < size)):
            yield batch

    def _least(self) -> int:
        return len(cast("Sized", self.share.order)) // self.share.world_size


def shard_loader(
    loader: DataLoader[Any], rank: int, world_size: int, *, even: bool, steady: bool = False
) -> DataLoader[Any]:
    """A copy of a map-style `loader` that yields only this rank's samples.

    A loader whose sampler already divides comes back as it is. A batch sampler of the user's own is not
    taken apart: its batches are dealt out whole. `steady` gives uneven shares in equally many batches.
    """
    parts = cast("Any", loader)
    batches = parts.batch_sampler
    if _divides(parts.sampler) or _divides(batches) or _divides(getattr(batches, "sampler", None)):
        return loader
    if batches is not None and not is_plain(batches):
        if even and not hasattr(batches, "__len__"):
            raise ConfigError(
                "setup_dataloaders(batch_sampler)",
                type(batches).__name__,
                "without __len__ nobody knows how many batches each process gets",
                "Give it __len__, or this rank's batches only and pass use_distributed_sampler=False",
            )
        return with_parts(loader, batch_sampler=ShardBatchSampler(batches, rank, world_size, even=even))
    sampler = ShardSampler(parts.sampler, rank, world_size, even=even)
    if batches is None:
        return with_parts(loader, sampler=sampler)
    if steady and not even and hasattr(parts.sampler, "__len__"):
        cut: BatchSampler = SteadyBatchSampler(sampler, batches.batch_size, batches.drop_last)
        return with_parts(loader, sampler=sampler, batch_sampler=cut)
    return with_parts(loader, sampler=sampler, batch_sampler=rebatched(batches, sampler))


def is_plain(batches: Any) -> bool:
    """Whether a batch sampler is torch's (or torchdata's) own, which only cuts a sampler's indices."""
    kind = cast("type[Any]", type(batches))
    return kind in (BatchSampler, SteadyBatchSampler) or (
        kind.__name__ == "BatchSampler" and kind.__module__.startswith("torchdata.")
    )


def rebatched(batches: Any, sampler: Iterable[int]) -> Any:
    """A plain batch sampler like `batches` over other indices."""
    again = copy.copy(batches)
    again.sampler = sampler
    return again


def with_parts(loader: DataLoader[Any], **parts: Any) -> DataLoader[Any]:
    """A shallow copy of `loader`, of the same class, with other parts.

    Unlike building a new one from the old one's arguments this keeps subclasses and their attributes.
    """
    twin = DataLoader.__new__(type(loader))
    vars(twin).update({**vars(loader), **parts, "_iterator": None})
    return twin


def _divides(part: Any) -> bool:
    return isinstance(part, (DistributedSampler, ShardBatchSampler)) or type(part).__name__.startswith(
        "StatefulDistributedSampler"
    )
