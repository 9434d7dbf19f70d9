import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.llm.data import best_fit
from blixt.llm.errors import LLMError


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(40, 90))
def test_every_item_is_in_one_bin_and_no_bin_overflows(lengths: list[int], capacity: int) -> None:
    bins = best_fit(lengths, capacity)
    assert sorted(i for held in bins for i in held) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in held) <= capacity for held in bins)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80))
def test_no_two_bins_would_fit_into_one(lengths: list[int]) -> None:
    filled = sorted(sum(lengths[i] for i in held) for held in best_fit(lengths, 50))
    assert len(filled) < 2 or filled[0] + filled[1] > 50


def test_the_fullest_bin_that_still_holds_an_item_gets_it() -> None:
    assert best_fit([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]


def test_a_hundred_thousand_items_are_packed_almost_without_gaps() -> None:
    lengths = [(i * 7919) % 500 + 1 for i in range(100_000)]
    bins = best_fit(lengths, 2048)
    assert sum(lengths) / (len(bins) * 2048) > 0.999


def test_an_item_longer_than_a_bin_is_named() -> None:
    with pytest.raises(LLMError, match="item 1 has length 9, which a block of 8"):
        best_fit([3, 9], 8)
