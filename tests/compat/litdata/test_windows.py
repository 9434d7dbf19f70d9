"""Windows of long arrays, in our datasets and in LitData's, as its `read_window` gives them."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from blixt.compat.litdata import StreamingDataset, TemporalArrayLoader, optimize
from compat.litdata import recipes

FIXTURE = Path(__file__).parents[2] / "data" / "foreign" / "fixtures" / "litdata-0.2.76" / "temporal"


@pytest.fixture(scope="module", params=["ours", "litdata"])
def tracks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StreamingDataset:
    if request.param == "litdata":
        return StreamingDataset(str(FIXTURE), item_loader=TemporalArrayLoader())
    folder = str(tmp_path_factory.mktemp("tracks"))
    loader = TemporalArrayLoader([["score", "valid"]])
    optimize(recipes.track, list(range(5)), folder, chunk_size=4, num_workers=0, item_loader=loader)
    return StreamingDataset(folder, item_loader=TemporalArrayLoader())


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(
        type(found[name]) is type(expected[name])
        and found[name].dtype == expected[name].dtype
        and bool((found[name] == expected[name]).all())
        for name in expected
    )


def test_whole_records_and_their_lengths(tracks: StreamingDataset) -> None:
    assert all(same(tracks[i], recipes.track(i)) for i in range(5))
    assert tracks.frame_counts() == [3, 4, 5, 6, 7]
    assert tracks.subset([4, 1]).frame_counts() == [7, 4]


def test_a_window_has_the_frames_and_fields_asked_for(tracks: StreamingDataset) -> None:
    for index, start, frames in [(0, 0, 3), (4, 2, 5), (2, 1, 1)]:
        whole = {name: value[start : start + frames] for name, value in recipes.track(index).items()}
        assert same(tracks.read_window(index, start, frames), whole)
        some = {name: whole[name] for name in ("valid", "features")}
        assert same(tracks.read_window(index, start, frames, ["valid", "features"]), some)
    assert asyncio.run(tracks.aread_window(3, 1, 2, ["score"]))["score"].tolist() == [4.0, 5.0]
    assert tracks.subset([4, 1]).read_window(1, 3, 1)["score"].tolist() == [4.0]


def test_what_a_window_gives_may_be_written_to(tracks: StreamingDataset) -> None:
    window = tracks.read_window(1, 0, 2)
    window["score"][:] = 0
    window["features"][:] = 0
    assert same(tracks[1], recipes.track(1))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0, 0, 4), IndexError),
        ((5, 0, 1), IndexError),
        ((0, -1, 1), IndexError),
        ((0, 0, 0), IndexError),
        ((0, 0.0, 1), TypeError),
        ((0, 0, 1, ["none"]), ValueError),
    ],
)
def test_what_does_not_lie_within_a_record_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], tracks: StreamingDataset
) -> None:
    with pytest.raises(error):
        tracks.read_window(*arguments)


def test_windows_of_plain_samples_are_slices_of_them(tmp_path: Path) -> None:
    tree = StreamingDataset(str(FIXTURE.parent / "fernet-sample").replace("fernet-sample", "tokens"))
    with pytest.raises(ValueError, match="TemporalArrayLoader"):
        tree.frame_counts()
    optimize(recipes.track, [3], str(tmp_path), chunk_size=4, num_workers=0)
    assert StreamingDataset(str(tmp_path)).read_window(0, 4, 2)["score"].tolist() == [7.0, 8.0]


@pytest.mark.parametrize(
    "record",
    [{}, [1], {"a": 1.0}, {"a": np.zeros((0, 2))}, {"a": np.zeros(3), "b": np.zeros(4)}, {"a": np.zeros(3)}],
)
def test_a_sample_that_is_no_record_is_refused(record: Any) -> None:
    with pytest.raises(ValueError, match=r"arrays|frame axis|Unknown grouped fields"):
        TemporalArrayLoader([["gone"]]).check(record)


def test_wrong_groups_are_refused() -> None:
    for groups in (["a"], [[]], [["a"], ["a"]]):
        with pytest.raises(ValueError, match="distinct field names"):
            TemporalArrayLoader(groups)
    TemporalArrayLoader([["x"]]).check({"x": torch.zeros(2, 3)})
