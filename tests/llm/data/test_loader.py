import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.llm.data.documents import targets_of, units

from blixt.llm.data import Loader, Packed, PackedBlock, pack
from blixt.llm.errors import LLMError


def packed(count: int = 60) -> Packed:
    return pack(units([3 + (i * 5) % 20 for i in range(count)]), 32, seed=7)


def run(blocks: Packed, world_size: int, batch_size: int, epochs: int = 2) -> list[list[PackedBlock]]:
    """Batches of every rank, step by step."""
    ranks = [
        Loader(blocks, batch_size, rank=r, world_size=world_size, epochs=epochs) for r in range(world_size)
    ]
    return [list(step) for step in zip(*ranks, strict=True)]


def rows(steps: list[list[PackedBlock]]) -> torch.Tensor:
    """All rows in the order in which the ranks together take them, without the filling at the end."""
    tokens = torch.cat([batch.tokens for step in steps for batch in step])
    documents = torch.cat([batch.documents for step in steps for batch in step])
    return tokens[(documents >= 0).any(-1)]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4))
def test_any_number_of_ranks_walks_through_the_same_blocks(world_size: int, batch_size: int) -> None:
    blocks = packed()
    assert torch.equal(rows(run(blocks, world_size, batch_size)), rows(run(blocks, 1, 1)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 12), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_a_state_goes_on_exactly_under_another_world_size(
    steps: int, world_before: int, batch_before: int, world_after: int, batch_after: int
) -> None:
    blocks = packed()
    whole = rows(run(blocks, 1, 1))
    before = [
        Loader(blocks, batch_before, rank=r, world_size=world_before, epochs=2) for r in range(world_before)
    ]
    seen = [step for _, step in zip(range(steps), zip(*before, strict=True), strict=False)]
    state = before[0].state_dict()
    assert all(loader.state_dict() == state for loader in before), "a state is the same on every rank"
    after = [
        Loader(packed(), batch_after, rank=r, world_size=world_after, epochs=2) for r in range(world_after)
    ]
    for loader in after:
        loader.load_state_dict(state)
    rest = [list(step) for step in zip(*after, strict=True)]
    both = [rows(part) for part in ([list(s) for s in seen], rest) if part]
    assert torch.equal(torch.cat(both), whole)


def test_nothing_is_lost_at_the_end_and_empty_rows_teach_nothing() -> None:
    blocks = packed(23)
    steps = run(blocks, 2, 3, epochs=1)
    whole = [blocks.block(0, i) for i in range(blocks.count(0))]
    assert blocks.count(0) % 6
    assert targets_of([batch for step in steps for batch in step]) == targets_of(whole)
    last = steps[-1][-1]
    assert last.tokens.shape == (3, 32)


def test_drop_last_leaves_out_a_batch_that_is_not_full() -> None:
    blocks = packed(23)
    data = Loader(blocks, 4, epochs=1, drop_last=True)
    assert data.steps_left() == blocks.count(0) // 4
    assert len(list(data)) == blocks.count(0) // 4


def test_steps_left_counts_what_comes() -> None:
    data = Loader(packed(), 3, world_size=2, epochs=3)
    left = data.steps_left()
    batches = iter(data)
    next(batches)
    assert data.steps_left() == left - 1
    assert len(list(batches)) == left - 1
    assert data.steps_left() == 0
    with pytest.raises(LLMError, match="give it epochs"):
        Loader(packed(), 1).steps_left()


def test_without_epochs_it_goes_on_for_ever() -> None:
    data = Loader(packed(4), 1)
    taken = [batch for _, batch in zip(range(50), data, strict=False)]
    assert len(taken) == 50
    assert data.epoch >= 10


def test_restart_gives_the_same_again() -> None:
    data = Loader(packed(), 4, epochs=1)
    first = [batch.tokens for batch in data]
    assert list(data) == []
    data.restart()
    assert all(torch.equal(a, b.tokens) for a, b in zip(first, data, strict=True))


def test_a_state_of_other_data_is_refused() -> None:
    state = Loader(packed(), 1).state_dict()
    for other in (packed(61), pack(packed().units, 32, seed=8), pack(packed().units, 40, seed=7)):
        with pytest.raises(LLMError, match="stopped on other data"):
            Loader(other, 1).load_state_dict(state)


def test_impossible_ranks_are_told() -> None:
    with pytest.raises(LLMError, match="rank=2, world_size=2"):
        Loader(packed(), 1, rank=2, world_size=2)


def test_sequences_are_numbered_uniquely_in_a_batch() -> None:
    batch = next(iter(Loader(packed(), 3)))
    numbers = batch.sequences(100)
    assert numbers.max() >= 200
    assert ((numbers >= 0) == (batch.documents >= 0)).all()
    assert torch.equal(numbers % 100 * (numbers >= 0), batch.documents.clamp(min=0))
