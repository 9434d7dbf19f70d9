"""`map` brings the files that a function writes to one output, whole, once, and goes on where it broke."""

from functools import partial
from pathlib import Path

import pytest

from blixt.data import BuildError, DatasetExistsError, map
from blixt.data.build.files import device_of

from .functions import Gather, write_below, write_device, write_some_and_fail, write_text


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("workers", [0, 2])
def test_files_arrive_in_the_output(tmp_path: Path, workers: int) -> None:
    names = map(write_text, range(20), tmp_path, num_workers=workers)
    assert names == [f"{i:03d}.txt" for i in range(20)]
    assert files(tmp_path) == {f"{i:03d}.txt": f"text {i}" for i in range(20)}


def test_folders_below_the_output_are_kept(tmp_path: Path) -> None:
    names = map(write_below, range(9), tmp_path, num_workers=2)
    assert sorted(names) == sorted(f"{i % 3}/deep/{i}.bin" for i in range(9))
    assert (tmp_path / "2/deep/8.bin").read_bytes() == bytes(8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_function_that_asks_for_it_is_told_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    map(write_device, range(4), tmp_path, num_workers=0)
    assert set(files(tmp_path).values()) == {"cuda:0"}
    assert [device_of(worker) for worker in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_of(1) == "cpu"


def test_a_function_that_asks_for_it_is_told_the_last_input_of_each_unit(tmp_path: Path) -> None:
    map(Gather(), range(20), tmp_path, num_workers=2, unit_size=8)
    assert files(tmp_path) == {
        "until-7.txt": str(sum(range(8))),
        "until-15.txt": str(sum(range(8, 16))),
        "until-19.txt": str(sum(range(16, 20))),
    }


def test_an_output_that_must_be_empty_and_is_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    with pytest.raises(DatasetExistsError, match=r"is not empty: it holds old.txt"):
        map(write_text, range(3), tmp_path, num_workers=0, error_when_not_empty=True)
    map(write_text, range(3), tmp_path, num_workers=0)
    assert (tmp_path / "old.txt").read_text() == "old"


def test_a_unit_that_failed_leaves_no_file_and_the_others_are_not_done_again(tmp_path: Path) -> None:
    fn = partial(write_some_and_fail, tmp_path)
    with pytest.raises(BuildError, match=r"input 7 \(7\): ValueError: broken"):
        map(fn, range(12), tmp_path / "out", num_workers=0, unit_size=4, error_when_not_empty=True)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.txt")) == [f"{i:03d}.txt" for i in range(4)]
    (tmp_path / "mended").touch()
    (tmp_path / "calls").unlink()
    map(fn, range(12), tmp_path / "out", num_workers=0, unit_size=4, error_when_not_empty=True)
    assert (tmp_path / "calls").read_text().split() == [str(i) for i in range(4, 12)]
    assert sorted(files(tmp_path / "out")) == [f"{i:03d}.txt" for i in range(12)]
