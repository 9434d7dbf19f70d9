"""Loaders that know where they are."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from blixt.fabric import ConfigError, ResumableLoader, map_tensors, tensors, to_device
from blixt.fabric.samplers import ShardSampler, shard_loader


def flat(batches: Any) -> list[int]:
    return [int(number) for batch in batches for number in batch]


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), size=st.integers(1, 7), drop=st.booleans(), data=st.data())
def test_any_shuffled_loader_goes_on_exactly_where_it_was(
    rows: int, size: int, drop: bool, data: st.DataObject
) -> None:
    def make() -> ResumableLoader:
        return ResumableLoader(DataLoader(torch.arange(rows), size, shuffle=True, drop_last=drop), seed=4)  # type: ignore[arg-type]

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


def test_each_epoch_has_its_own_order_and_leaves_the_global_generators_alone() -> None:
    loader = ResumableLoader(DataLoader(torch.arange(20), 4, shuffle=True), seed=1)  # type: ignore[arg-type]
    before = torch.get_rng_state()
    first = flat(loader)
    loader.end_epoch()
    second = flat(loader)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert torch.equal(before, torch.get_rng_state())


def test_the_generator_that_the_user_gave_decides_the_order() -> None:
    def make(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return flat(ResumableLoader(DataLoader(torch.arange(20), 4, shuffle=True, generator=generator)))  # type: ignore[arg-type]

    assert make(1) == make(1) != make(2)


def test_workers_give_the_same_batches_in_the_same_order() -> None:
    def make(workers: int) -> list[int]:
        loader = DataLoader(torch.arange(20), 4, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
        return flat(ResumableLoader(loader, seed=3))

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


def test_sharding_keeps_subclasses_of_the_loader_and_refuses_batch_samplers_of_ones_own() -> None:
    class Mine(DataLoader[Any]):
        note = "mine"

    class Pairs(BatchSampler):
        pass

    sharded = shard_loader(Mine(torch.arange(8), 2), 1, 2, even=True)  # type: ignore[arg-type]
    assert isinstance(sharded, Mine)
    assert flat(sharded) == [1, 3, 5, 7]
    own = DataLoader(torch.arange(8), batch_sampler=Pairs(SequentialSampler(range(8)), 2, False))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="use_distributed_sampler=False"):
        shard_loader(own, 0, 2, even=True)


def test_weighted_and_replacing_samplers_resume_too() -> None:
    def make() -> ResumableLoader:
        sampler = RandomSampler(range(30), replacement=True, num_samples=70)
        return ResumableLoader(DataLoader(torch.arange(30), 5, sampler=sampler), seed=2)  # type: ignore[arg-type]

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
