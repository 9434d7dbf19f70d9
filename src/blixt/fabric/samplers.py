"""Which samples of a map-style dataset a rank sees."""

from collections.abc import Iterable, Iterator, Sized
from itertools import chain, cycle, islice
from typing import Any, cast

from torch.utils.data import BatchSampler, DataLoader, Sampler

from blixt.fabric.errors import ConfigError


class ShardSampler(Sampler[int]):
    """Every `world_size`-th index of an order that all ranks share, beginning at `rank`.

    Args:
        order: The sampler of the whole dataset; it must give every rank the same order.
        rank: This process.
        world_size: Number of processes.
        even: Repeat the first indices so that all ranks get equally many, which training in lockstep
            needs. Evaluation leaves the last round uneven, so that no sample counts twice.
    """

    def __init__(self, order: Iterable[int], rank: int, world_size: int, *, even: bool) -> None:
        self.order = order
        self.rank = rank
        self.world_size = world_size
        self.even = even

    def __len__(self) -> int:
        total = len(cast("Sized", self.order))
        if self.even:
            return -(-total // self.world_size)
        return len(range(self.rank, total, self.world_size))

    def __iter__(self) -> Iterator[int]:
        if not self.even:
            return islice(iter(self.order), self.rank, None, self.world_size)
        indices = list(self.order)
        padded = chain(indices, islice(cycle(indices), -len(indices) % self.world_size))
        return islice(padded, self.rank, None, self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to an order that wants to know it."""
        if hasattr(self.order, "set_epoch"):
            cast("Any", self.order).set_epoch(epoch)


def shard_loader(loader: DataLoader[Any], rank: int, world_size: int, *, even: bool) -> DataLoader[Any]:
    """A copy of a map-style `loader` that yields only this rank's samples.

    A loader whose sampler already is a `ShardSampler` or torch's `DistributedSampler` comes back as it is.
    """
    parts = cast("Any", loader)
    if type(parts.sampler).__name__ in ("ShardSampler", "DistributedSampler"):
        return loader
    batches = parts.batch_sampler
    if batches is not None and type(batches) is not BatchSampler:
        raise ConfigError(
            "setup_dataloaders(batch_sampler)",
            type(batches).__name__,
            "a batch sampler of your own cannot be divided among processes",
            "Make it yield this rank's batches and pass use_distributed_sampler=False",
        )
    sampler = ShardSampler(parts.sampler, rank, world_size, even=even)
    if batches is None:
        return with_parts(loader, sampler=sampler)
    sharded = BatchSampler(sampler, batches.batch_size, batches.drop_last)
    return with_parts(loader, sampler=sampler, batch_sampler=sharded)


def with_parts(loader: DataLoader[Any], **parts: Any) -> DataLoader[Any]:
    """A shallow copy of `loader`, of the same class, with other parts.

    Unlike building a new one from the old one's arguments this keeps subclasses and their attributes.
    """
    twin = DataLoader.__new__(type(loader))
    vars(twin).update({**vars(loader), **parts, "_iterator": None})
    return twin
