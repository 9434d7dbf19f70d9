"""Other libraries' datasets in a real S3 store."""

from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset
from blixt.data.foreign import convert, open_foreign
from blixt.data.store import open_store
from data.foreign import samples
from data.foreign.compare import same_values
from data.servers.seaweed import S3

FIXTURES = Path(__file__).parent / "fixtures"


def uploaded(s3: S3, folder: Path) -> tuple[str, dict[str, Any]]:
    """Put a folder into a fresh prefix; return its address and how to reach it."""
    location = s3.location()
    access: dict[str, Any] = {"credentials": s3.credentials, "options": s3.options}
    store = open_store(location, **access)
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())
    return location, access


@pytest.mark.parametrize(
    ("folder", "rows"),
    [("litdata-0.2.76/zstd", 10), ("litdata-0.2.30/tree", 10), ("mds/columns", 10), ("webdataset", 3)],
)
def test_a_dataset_in_a_bucket_is_found_out_and_read(folder: str, rows: int, tmp_path: Path, s3: S3) -> None:
    location, access = uploaded(s3, FIXTURES / folder)
    dataset = open_foreign(location, cache_dir=tmp_path, **access)
    local = open_foreign(FIXTURES / folder, cache_dir=tmp_path)
    assert len(dataset) == rows
    assert same_values(dataset[:], local[:])


def test_a_dataset_is_converted_from_a_bucket_by_workers(tmp_path: Path, s3: S3) -> None:
    location, access = uploaded(s3, FIXTURES / "litdata-0.2.76" / "zstd")
    source = open_foreign(location, cache_dir=tmp_path / "cache", **access)
    convert(source, tmp_path / "ours", num_workers=1)
    assert [sample["int"] for sample in Dataset(tmp_path / "ours")] == [i - 3 for i in range(samples.ROWS)]


def test_files_that_are_fetched_are_kept_and_bounded(tmp_path: Path, s3: S3) -> None:
    location, access = uploaded(s3, FIXTURES / "mds" / "columns")
    dataset = open_foreign(location, cache_dir=tmp_path, cache_bytes=2500, **access)
    assert same_values(dataset[:], [samples.columns(i) for i in range(samples.ROWS)])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2500


def test_what_others_keep_in_the_folder_is_never_deleted(tmp_path: Path, s3: S3) -> None:
    location, access = uploaded(s3, FIXTURES / "mds" / "columns")
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "folder").mkdir()
    dataset = open_foreign(location, cache_dir=tmp_path, cache_bytes=1, **access)
    assert len(dataset[:]) == samples.ROWS
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "folder").is_dir()
