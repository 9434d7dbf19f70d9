"""Parts of a dataset are datasets: no row is shared, none is lost, and resume is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import DataError, Loader, split
from blixt.data.subset import subset

from .loader_functions import Numbers


@given(
    st.integers(0, 500),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=5),
    st.booleans(),
    st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_a_split_shares_no_row_and_loses_none(
    rows: int, shares: list[float], shuffle: bool, seed: int
) -> None:
    parts = split(Numbers(rows), [share / sum(shares) for share in shares], seed=seed, shuffle=shuffle)
    seen = [sample["x"] for part in parts for sample in part]
    assert sorted(seen) == list(range(rows))
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - rows * share / sum(shares)) <= 1


def test_a_split_is_the_same_everywhere_and_another_with_another_seed() -> None:
    def first(seed: int) -> list[int]:
        return [sample["x"] for sample in split(Numbers(100), [0.5], seed=seed)[0]]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_a_subset_takes_slices_and_numbers() -> None:
    data = Numbers(100)
    assert [sample["x"] for sample in data.subset(slice(90, 10, -20))] == [90, 70, 50, 30]
    assert [sample["x"] for sample in data.subset([3, -1, 3])] == [3, 99, 3]
    assert [sample["x"] for sample in subset(data, np.array([5]))] == [5]
    assert len(data.subset(slice(0, 0))) == 0
    with pytest.raises(IndexError, match="row 100 is out of range"):
        data.subset([100])


def test_a_subset_of_a_shuffled_dataset_is_shuffled_within_itself_and_resumes() -> None:
    data = Numbers(1000, shuffle=True, seed=3).subset(slice(0, 200))
    whole = [batch["x"].tolist() for batch in Loader(data, 8)]
    assert sorted(x for batch in whole for x in batch) == list(range(200))
    assert whole[0] != list(range(8))
    data.set_epoch(0)
    loader = Loader(data, 8)
    begun = [batch["x"].tolist() for _, batch in zip(range(5), loader, strict=False)]
    other = Loader(Numbers(1000, shuffle=True, seed=3).subset(slice(0, 200)), 8)
    other.load_state_dict(loader.state_dict())
    assert begun + [batch["x"].tolist() for batch in other] == whole


def test_a_state_of_another_subset_is_refused() -> None:
    data = Numbers(100)
    with pytest.raises(DataError, match="its subset is"):
        data.subset(slice(0, 11)).load_state_dict(data.subset(slice(0, 10)).state_dict())
    with pytest.raises(DataError, match="its subset is"):
        data.subset([1, 2]).load_state_dict(data.subset([1, 3]).state_dict())


def test_a_subset_of_a_subset_counts_in_the_subset() -> None:
    data = Numbers(100).subset(slice(50, 100)).subset([0, 49])
    assert [sample["x"] for sample in data] == [50, 99]


@pytest.mark.parametrize("shares", [[], [0.5, 0.6], [0.0], [-0.5]])
def test_shares_that_make_no_sense_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="parts must be positive shares"):
        split(Numbers(10), shares)
