"""Cutting inputs: every input is in one unit, in order, whatever the way of cutting."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from blixt.data.build.units import (
    ListedUnits,
    StreamedUnits,
    borders_at,
    borders_by_count,
    borders_by_weight,
)

sizes = st.integers(1, 50)


@given(st.integers(1, 500), sizes)
def test_units_by_count_have_the_size_that_was_asked_for(total: int, size: int) -> None:
    borders = borders_by_count(total, size)
    assert (borders[0], borders[-1]) == (0, total)
    assert [stop - first for first, stop in pairwise(borders)][:-1] == [size] * (len(borders) - 2)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=200), sizes)
def test_units_by_weight_hold_every_input_once_and_none_is_empty(weights: list[float], count: int) -> None:
    borders = borders_by_weight(weights, count)
    assert (borders[0], borders[-1]) == (0, len(weights))
    assert all(first < stop for first, stop in pairwise(borders))
    assert len(borders) - 1 <= max(count, 1)


@given(st.lists(st.floats(0.5, 1.5), min_size=40, max_size=200))
def test_units_by_weight_weigh_about_the_same(weights: list[float]) -> None:
    borders = borders_by_weight(weights, 4)
    parts = [sum(weights[first:stop]) for first, stop in pairwise(borders)]
    assert max(parts) - min(parts) <= 4 * max(weights)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), sizes)
def test_units_end_only_where_they_may(groups: list[int], size: int) -> None:
    cuts = [sum(groups[: index + 1]) for index in range(len(groups))]
    borders = borders_at(cuts, size)
    assert (borders[0], borders[-1]) == (0, cuts[-1])
    assert set(borders) <= {0, *cuts}
    assert all(stop - first >= size for first, stop in list(pairwise(borders))[:-1])


@given(st.lists(st.integers(), min_size=1, max_size=100), sizes)
def test_a_stream_is_cut_like_a_list(inputs: list[int], size: int) -> None:
    listed = list(ListedUnits(inputs, borders_by_count(len(inputs), size), True))
    assert list(StreamedUnits(iter(inputs), size, True)) == listed
    assert [item for unit in listed for item in unit.load()] == inputs


@given(st.lists(st.text(), min_size=2, max_size=20), st.data())
def test_a_changed_input_changes_the_digest_of_its_unit_alone(inputs: list[str], data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, len(inputs) - 1))
    others = [text + "!" if index == changed else text for index, text in enumerate(inputs)]
    borders = borders_by_count(len(inputs), 3)
    before, after = ListedUnits(inputs, borders, True), ListedUnits(others, borders, True)
    differ = [unit.number for unit, other in zip(before, after, strict=True) if unit.digest != other.digest]
    assert differ == [changed // 3]
    assert before.fingerprint() != after.fingerprint()


def test_an_input_is_named_in_a_message_and_cut_short() -> None:
    unit = ListedUnits(["a" * 200], [0, 1], True)[0]
    assert unit.describe(0) == f"input 0 ('{'a' * 76}...)"
    assert unit.describe(5) == "input 5"
