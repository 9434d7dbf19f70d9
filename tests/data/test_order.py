"""The order of an epoch: a bijection, equal on every topology, well mixed, and resumable from two numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import Order
from blixt.data.permute import permute
from blixt.data.steps import ENDS, Steps

orders = st.builds(
    Order,
    rows=st.integers(1, 3000),
    block_rows=st.integers(1, 200),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 5),
    window=st.integers(1, 40),
)


@given(orders)
@settings(max_examples=200, deadline=None)
def test_every_row_has_exactly_one_position(order: Order) -> None:
    rows = order.at(np.arange(order.rows))
    assert sorted(rows.tolist()) == list(range(order.rows))


@given(orders, st.data())
@settings(max_examples=50, deadline=None)
def test_a_position_is_the_same_row_whoever_asks_and_whatever_else_is_asked(order: Order, data: Any) -> None:
    some = data.draw(st.lists(st.integers(0, order.rows - 1), max_size=20))
    everything = order.at(np.arange(order.rows))
    assert order.at(np.array(some, np.int64)).tolist() == everything[some].tolist()


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_a_keyed_permutation_is_one_to_one(size: int, key: int) -> None:
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


def test_without_shuffle_the_order_is_as_stored() -> None:
    order = Order(rows=100, block_rows=7, shuffle=False)
    assert order.at(np.arange(100)).tolist() == list(range(100))


def test_another_epoch_and_another_seed_are_another_order() -> None:
    def rows(**names: int) -> list[int]:
        return Order(rows=1000, block_rows=10, **names).at(np.arange(1000)).tolist()

    assert rows(seed=1) == rows(seed=1)
    assert rows(seed=1) != rows(seed=2)
    assert rows(seed=1, epoch=0) != rows(seed=1, epoch=1)


def test_a_batch_mixes_rows_from_all_over_a_large_dataset() -> None:
    order = Order(rows=100_000_000, block_rows=256, seed=1)
    spread = [
        order.at(np.arange(start, start + 64)).std() / order.rows for start in (0, 10_000_000, 99_999_000)
    ]
    assert np.mean(spread) == pytest.approx(0.289, abs=0.04)  # uniform rows have 1 / sqrt(12)


def test_a_window_of_all_blocks_is_an_exact_global_shuffle() -> None:
    order = Order(rows=1000, block_rows=10, window=100)
    neighbours = np.abs(np.diff(order.at(np.arange(1000))))
    assert neighbours.mean() == pytest.approx(1000 / 3, rel=0.1)


def test_a_run_of_positions_touches_only_as_many_blocks_as_streams_times_window() -> None:
    order = Order(rows=1_000_000, block_rows=100, window=4)
    rows = order.at(np.arange(order.streams * 4 * 100))
    assert len(np.unique(rows // 100)) <= order.streams * 4


topologies = st.tuples(st.integers(1, 9), st.integers(1, 40))
histories = st.lists(st.tuples(topologies, st.integers(0, 30)), max_size=5)


def run_history(total: int, history: Any, last: tuple[int, int], end: Any) -> list[int]:
    """Run some steps on each topology in turn, then finish the epoch on the last one."""
    consumed, seen = 0, []
    for (world_size, batch_size), steps in [*history, (last, None)]:
        ranks = [Steps(total, batch_size, world_size, rank, consumed, end) for rank in range(world_size)]
        count = (
            len(ranks[0]) if steps is None else min(steps, (total - consumed) // (world_size * batch_size))
        )
        for step in range(count):
            seen += [int(p) for rank in ranks for p in rank.positions(step)]
        if count:
            consumed = ranks[0].consumed_after(count - 1)
    return seen


@given(st.integers(1, 2000), histories, topologies)
@settings(max_examples=150, deadline=None)
def test_any_history_of_world_and_batch_sizes_gives_the_same_sequence_without_gap_or_repeat(
    total: int, history: Any, last: tuple[int, int]
) -> None:
    seen = run_history(total, history, last, "drop_last")
    assert seen == list(range(len(seen)))
    assert total - len(seen) < last[0] * last[1]


@given(st.integers(1, 2000), histories, topologies)
@settings(max_examples=150, deadline=None)
def test_even_leaves_nothing_out_and_repeats_fewer_rows_than_ranks(
    total: int, history: Any, last: tuple[int, int]
) -> None:
    seen = run_history(total, history, last, "even")
    assert seen[:total] == list(range(total))
    assert len(seen) - total < last[0]


@given(st.integers(1, 2000), topologies)
@settings(max_examples=100, deadline=None)
def test_pad_fills_the_last_batch_from_the_start_of_the_epoch(total: int, last: tuple[int, int]) -> None:
    seen = run_history(total, [], last, "pad")
    assert len(seen) % (last[0] * last[1]) == 0
    assert seen == [position % total for position in range(len(seen))]


@given(st.integers(1, 500), topologies, st.sampled_from(ENDS))
@settings(max_examples=100, deadline=None)
def test_all_ranks_run_the_same_number_of_steps_of_the_same_size(total: int, world: Any, end: Any) -> None:
    world_size, batch_size = world
    shapes = {
        tuple(len(steps.positions(step)) for step in range(len(steps)))
        for steps in (Steps(total, batch_size, world_size, rank, end=end) for rank in range(world_size))
    }
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 1, "rank": 2, "world_size": 2}, r"rank must be in 0\.\.1, got 2"),
        ({"batch_size": 1, "end": "drop"}, "end must be one of drop_last, pad, even"),
    ],
)
def test_impossible_steps_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Steps(10, **arguments)
