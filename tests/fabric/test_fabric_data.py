"""Loaders that know where they are."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from blixt.fabric import ResumableLoader, map_tensors, tensors, to_device
from blixt.fabric.samplers import ShardSampler, shard_loader


def flat(batches: Any) -> list[int]:
    return [int(number) for batch in batches for number in batch]


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), size=st.integers(1, 7), drop=st.booleans(), data=st.data())
def test_any_shuffled_loader_goes_on_exactly_where_it_was(
    rows: int, size: int, drop: bool, data: st.DataObject
) -> None:
    def make() -> ResumableLoader:
        torch.manual_seed(4)
        return ResumableLoader(DataLoader(torch.arange(rows), size, shuffle=True, drop_last=drop))  # type: ignore[arg-type]

    whole = make()
    epochs = [flat(whole) for _ in range(2) if whole.end_epoch() is None]
    assert len(whole) == 0 or epochs[0] or drop
    part = make()
    part.end_epoch()
    stop = data.draw(st.integers(0, len(part)))
    seen: list[int] = []
    for _, batch in zip(range(stop), part, strict=False):
        seen += batch.tolist()
    later = make()
    later.load_state_dict(part.state_dict())
    if stop:
        seen += flat(later)
        assert seen == epochs[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_has_the_order_that_the_bare_loader_has_and_draws_the_same_numbers(workers: int) -> None:
    bare = DataLoader(torch.arange(20), 4, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
    torch.manual_seed(1)
    expected, after = [flat(bare), flat(bare)], torch.rand(1)
    torch.manual_seed(1)
    loader = ResumableLoader(bare)
    assert [flat(loader), flat(loader)] == expected
    assert torch.equal(torch.rand(1), after)
    assert expected[0] != expected[1]


def test_the_generator_that_the_user_gave_decides_the_order() -> None:
    def make(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return flat(ResumableLoader(DataLoader(torch.arange(20), 4, shuffle=True, generator=generator)))  # type: ignore[arg-type]

    assert make(1) == make(1) != make(2)


def test_workers_give_the_same_batches_in_the_same_order() -> None:
    def make(workers: int) -> list[int]:
        torch.manual_seed(3)
        loader = DataLoader(torch.arange(20), 4, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
        return flat(ResumableLoader(loader))

    assert make(0) == make(2)


@given(total=st.integers(0, 50), world=st.integers(1, 6))
def test_shards_are_even_for_training_and_exact_for_evaluation(total: int, world: int) -> None:
    even = [list(ShardSampler(range(total), rank, world, even=True)) for rank in range(world)]
    exact = [list(ShardSampler(range(total), rank, world, even=False)) for rank in range(world)]
    assert len({len(shard) for shard in even}) == 1
    assert set().union(*even) == set(range(total))
    assert sorted(index for shard in exact for index in shard) == list(range(total))
    assert [len(ShardSampler(range(total), r, world, even=True)) for r in range(world)] == list(
        map(len, even)
    )
    assert [len(ShardSampler(range(total), r, world, even=False)) for r in range(world)] == list(
        map(len, exact)
    )


def test_ranks_share_one_shuffle_without_overlap() -> None:
    data = TensorDataset(torch.arange(24))
    ranks = [
        ResumableLoader(
            shard_loader(DataLoader(data, 3, shuffle=True), rank, 2, even=True), seed=9, rank=rank
        )
        for rank in (0, 1)
    ]
    seen = [[int(n) for batch in loader for n in batch[0]] for loader in ranks]
    assert sorted(seen[0] + seen[1]) == list(range(24))
    assert sorted(seen[0]) != list(range(0, 24, 2))


def test_sharding_keeps_subclasses_of_the_loader() -> None:
    class Mine(DataLoader[Any]):
        note = "mine"

    sharded = shard_loader(Mine(torch.arange(8), 2), 1, 2, even=True)  # type: ignore[arg-type]
    assert isinstance(sharded, Mine)
    assert isinstance(sharded.sampler, DistributedSampler)
    assert flat(sharded) == [1, 3, 5, 7]


class Buckets(BatchSampler):
    """Batches of neighbours, in a random order of the batches."""

    def __init__(self, total: int, size: int) -> None:
        super().__init__(SequentialSampler(range(total)), size, False)

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(super().__iter__())
        for index in torch.randperm(len(batches)).tolist():
            yield batches[index]


@settings(deadline=None, max_examples=30)
@given(total=st.integers(1, 30), size=st.integers(1, 4), world=st.integers(1, 3), even=st.booleans())
def test_batch_samplers_of_ones_own_are_dealt_out_by_whole_batches(
    total: int, size: int, world: int, even: bool
) -> None:
    def shard(rank: int) -> list[list[int]]:
        own = DataLoader(torch.arange(total), batch_sampler=Buckets(total, size))  # type: ignore[arg-type]
        loader = ResumableLoader(shard_loader(own, rank, world, even=even), seed=5)
        batches = [batch.tolist() for batch in loader]
        assert len(batches) == len(loader)
        return batches

    shards = [shard(rank) for rank in range(world)]
    dealt = [tuple(batch) for batches in shards for batch in batches]
    whole = {tuple(batch) for batch in BatchSampler(range(total), size, False)}
    assert set(dealt) == whole
    if even:
        assert len({len(batches) for batches in shards}) == 1
    else:
        assert len(dealt) == len(whole)


def test_weighted_and_replacing_samplers_resume_too() -> None:
    def make() -> ResumableLoader:
        torch.manual_seed(2)
        sampler = RandomSampler(range(30), replacement=True, num_samples=70)
        return ResumableLoader(DataLoader(torch.arange(30), 5, sampler=sampler))  # type: ignore[arg-type]

    whole = flat(make())
    part = make()
    seen = flat(batch for _, batch in zip(range(9), part, strict=False))
    later = make()
    later.load_state_dict(part.state_dict())
    assert seen + flat(later) == whole


def test_nested_batches_are_walked_and_moved() -> None:
    batch = {"x": torch.ones(2), "rest": [torch.zeros(1), "text", (torch.ones(1),)]}
    assert len(list(tensors(batch))) == 3
    doubled = map_tensors(batch, lambda tensor: tensor * 2)
    assert doubled["x"].tolist() == [2.0, 2.0]
    assert doubled["rest"][1] == "text"
    assert to_device(batch, torch.device("meta"))["rest"][2][0].device.type == "meta"
