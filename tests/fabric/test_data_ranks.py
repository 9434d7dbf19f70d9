"""Positions that another number of ranks takes up, and loaders that keep their own."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from blixt.fabric import ResumableLoader
from blixt.fabric.samplers import shard_loader


def ranks(rows: int, size: int, world: int, even: bool = False, **options: Any) -> list[ResumableLoader]:
    def one(rank: int) -> ResumableLoader:
        loader: DataLoader[Any] = DataLoader(torch.arange(rows), size, shuffle=True, **options)  # type: ignore[arg-type]
        if world > 1:
            loader = shard_loader(loader, rank, world, even=even)
        return ResumableLoader(loader, seed=3, rank=rank)

    return [one(rank) for rank in range(world)]


def in_order(loaders: list[ResumableLoader], batches: int | None = None) -> list[int]:
    """What the ranks see, a round of all of them after the other."""
    columns: list[list[int]] = []
    for loader in loaders:
        found: list[int] = []
        for count, batch in enumerate(loader, 1):
            found += batch.tolist()
            if count == batches:
                break
        columns.append(found)
    longest = max(map(len, columns))
    return [column[row] for row in range(longest) for column in columns if row < len(column)]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(2, 60),
    size=st.integers(1, 5),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
    data=st.data(),
)
def test_the_order_of_an_epoch_goes_on_with_any_other_number_of_ranks(
    rows: int, size: int, before: int, after: int, data: st.DataObject
) -> None:
    torch.manual_seed(1)
    whole = in_order(ranks(rows, size, before))
    torch.manual_seed(1)
    first = ranks(rows, size, before)
    most = min(len(loader) for loader in first) - 1
    if most < 1:
        return
    done = data.draw(st.integers(1, most))
    seen = in_order(first, done)
    torch.manual_seed(99)
    second = ranks(rows, size, after)
    for loader in second:
        loader.load_state_dict(first[0].state_dict())
    lengths = {len(loader) - loader.delivered for loader in second}
    rest = in_order(second)
    assert seen + rest == whole
    assert sorted(whole) == list(range(rows))
    assert max(lengths) >= 0


def test_a_changed_batch_size_goes_on_with_the_samples_that_were_not_seen() -> None:
    torch.manual_seed(1)
    part = ranks(24, 4, 1)[0]
    seen = [number for _, batch in zip(range(3), part, strict=False) for number in batch.tolist()]
    again = ranks(24, 3, 1)[0]
    again.load_state_dict(part.state_dict())
    rest = [number for batch in again for number in batch.tolist()]
    assert sorted(seen + rest) == list(range(24))


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_stateful_loader_is_asked_itself(workers: int) -> None:
    def make() -> ResumableLoader:
        torch.manual_seed(4)
        data: Any = torch.arange(20)
        return ResumableLoader(StatefulDataLoader(data, 3, shuffle=True, num_workers=workers))

    whole = [batch.tolist() for batch in make()]
    part = make()
    seen = [batch.tolist() for _, batch in zip(range(2), part, strict=False)]
    state = part.state_dict()
    again = make()
    again.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of whatever the collector finds now
        assert seen + [batch.tolist() for batch in again] == whole


class Stream(IterableDataset[int]):
    """Cannot tell where it is."""

    def __iter__(self) -> Any:
        return iter(range(12))


def test_other_streams_are_run_through_with_a_warning_that_states_the_cost() -> None:
    part = ResumableLoader(DataLoader(Stream(), 2))
    seen = [batch.tolist() for _, batch in zip(range(4), part, strict=False)]
    again = ResumableLoader(DataLoader(Stream(), 2))
    again.load_state_dict(part.state_dict())
    with pytest.warns(UserWarning, match="4 batches are loaded and thrown away"):
        rest = [batch.tolist() for batch in again]
    assert [number for batch in seen + rest for number in batch] == list(range(12))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_copied_to_the_gpu_one_ahead_and_positions_are_of_what_was_delivered() -> None:
    loader = ResumableLoader(
        DataLoader(torch.arange(12), 2, pin_memory=True),  # type: ignore[arg-type]
        device=torch.device("cuda", 0),
    )
    for count, batch in enumerate(loader, 1):
        assert batch.device.type == "cuda"
        assert loader.delivered == count
        assert batch.tolist() == [2 * count - 2, 2 * count - 1]


@settings(deadline=None)
@given(rows=st.integers(0, 60), size=st.integers(1, 7), world=st.integers(2, 5), drop_last=st.booleans())
def test_steady_shares_come_in_equally_many_batches_and_no_sample_twice(
    rows: int, size: int, world: int, drop_last: bool
) -> None:
    found: list[list[list[int]]] = []
    for rank in range(world):
        whole: DataLoader[Any] = DataLoader(torch.arange(rows), size, drop_last=drop_last)  # type: ignore[arg-type]
        share = shard_loader(whole, rank, world, even=False, steady=True)
        loader = ResumableLoader(share, seed=3, rank=rank)
        found.append([batch.tolist() for batch in loader])
        assert len(found[-1]) == len(share)
    assert len({len(batches) for batches in found}) == 1
    seen = [sample for batches in found for batch in batches for sample in batch]
    assert len(set(seen)) == len(seen)
    assert all(len(batch) <= size + 1 for batches in found for batch in batches)
    if drop_last:
        assert all(len(batch) == size for batches in found for batch in batches)
    elif rows >= world:
        assert sorted(seen) == list(range(rows))
