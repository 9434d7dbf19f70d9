"""However values are spread over ranks, batches and devices, the epoch's number is that of all of them."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.fabric import ConfigError
from blixt.trainer.slot_specs import make_slot, restored_slot, spec_of
from blixt.trainer.slots import Options, Slot, finish, merge, reduction

VALUES = st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 9)), min_size=1, max_size=40)
KINDS = st.sampled_from(["mean", "sum", "min", "max"])


def slot_of(kind: Any) -> Slot:
    options = Options(False, True, False, True, kind, False, None, None, False)
    return make_slot(("training_step", 0, "x"), "", options, ())


def pair_of(slot: Slot) -> tuple[float, float]:
    away = slot.away()
    return slot.pair(None if away is None else away.tolist())


def expected(kind: str, values: list[tuple[float, int]]) -> float:
    numbers = [value for value, _ in values]
    if kind == "mean":
        return math.fsum(v * w for v, w in values) / sum(w for _, w in values)
    return {"sum": math.fsum, "min": min, "max": max}[kind](numbers)


@settings(deadline=None, max_examples=60)
@given(values=VALUES, kind=KINDS, data=st.data())
def test_any_division_among_ranks_gives_the_number_of_all_values(
    values: list[tuple[float, int]], kind: Any, data: st.DataObject
) -> None:
    ranks = [slot_of(kind) for _ in range(3)]
    for value, weight in values:
        rank = ranks[data.draw(st.integers(0, 2))]
        kept = torch.tensor(value, dtype=torch.float64) if data.draw(st.booleans()) else value
        rank.add(kept, weight)
    found = finish(kind, [pair_of(rank) for rank in ranks])
    assert found == pytest.approx(expected(kind, values), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(values=VALUES, kind=KINDS, cut=st.integers(0, 40))
def test_a_slot_that_was_saved_and_restored_counts_on(
    values: list[tuple[float, int]], kind: Any, cut: int
) -> None:
    before = slot_of(kind)
    for value, weight in values[:cut]:
        before.add(value, weight)
    after = restored_slot(before.key, spec_of(before), None)
    pair = pair_of(before)
    if pair[1] > 0:
        after.load(pair)
    for value, weight in values[cut:]:
        after.add(value, weight)
    assert finish(kind, [pair_of(after)]) == pytest.approx(expected(kind, values), rel=1e-9, abs=1e-9)


def test_more_tensors_than_are_kept_waiting_are_folded_in() -> None:
    slot = slot_of("mean")
    for index in range(1000):
        slot.add(torch.tensor(float(index)), 1)
    assert finish("mean", [pair_of(slot)]) == 499.5


def test_who_has_seen_nothing_does_not_count() -> None:
    assert math.isnan(finish("mean", []))
    assert finish("max", [(0.0, 0.0), (-5.0, 2.0)]) == -5.0
    assert merge("min", [(0.0, 0.0)]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("given_as", "name"),
    [("mean", "mean"), ("AVG", "mean"), (torch.max, "max"), (min, "min"), (sum, "sum"), (torch.mean, "mean")],
)
def test_reductions_have_several_spellings(given_as: Any, name: str) -> None:
    assert reduction(given_as) == name


@pytest.mark.parametrize("wrong", ["median", torch.std, lambda values: values, 3])
def test_other_reductions_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="Use mean, sum, min or max"):
        reduction(wrong)
