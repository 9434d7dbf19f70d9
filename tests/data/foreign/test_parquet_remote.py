"""Parquet files of a hub and of a bucket: opening reads their ends, once on a machine; then what is read."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blixt.data.errors import FormatError
from blixt.data.foreign import ParquetDataset
from blixt.data.store import open_store
from data.servers.faulty import FaultyProxy
from data.servers.seaweed import S3
from data.servers.web import HubServer, WebServer

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FILES, ROWS, GROUP = 3, 200, 50
ADDRESS = "hf://datasets/owner/name/data/*.parquet"


def row(i: int) -> dict[str, Any]:
    return {"id": i, "raw": bytes([i % 256]) * 2000, "tags": [f"t{k}" for k in range(i % 3)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of 400 KB, plainly stored, four row groups each."""
    folder = tmp_path_factory.mktemp("parquet")
    (folder / "data").mkdir()
    for file in range(FILES):
        table = pa.Table.from_pylist([row(i) for i in range(file * ROWS, (file + 1) * ROWS)])
        options: dict[str, Any] = {"row_group_size": GROUP, "compression": "none", "use_dictionary": False}
        parquet.write_table(table, folder / "data" / f"{file}.parquet", **options)
    return folder


@pytest.fixture
def files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """The server from which a hub has its files sent."""
    with WebServer(folder) as files, HubServer(folder, files=files.address) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield files


def asked_bytes(files: WebServer) -> int:
    """Return how many bytes were asked for; a request for a whole file counts as all of them."""
    total = 0
    for _, headers in files.requests:
        first, _, last = headers.get("range", "bytes=0-9999999").removeprefix("bytes=").partition("-")
        total += int(last) - int(first) + 1 if first else int(last)
    return total


def test_every_row_of_a_hub_is_read(files: WebServer, tmp_path: Path) -> None:
    dataset = ParquetDataset(ADDRESS, cache_dir=tmp_path)
    assert dataset[:] == [row(i) for i in range(FILES * ROWS)]
    shuffled = ParquetDataset(ADDRESS, shuffle=True, cache_dir=tmp_path)
    assert sorted(sample["id"] for sample in shuffled) == list(range(FILES * ROWS))


def test_opening_reads_the_ends_of_the_files_and_one_row_its_row_group(
    files: WebServer, tmp_path: Path
) -> None:
    dataset = ParquetDataset(ADDRESS, cache_dir=tmp_path)
    assert len(dataset) == FILES * ROWS
    assert asked_bytes(files) <= FILES << 16
    files.requests.clear()
    assert dataset[ROWS + 3] == row(ROWS + 3)
    assert asked_bytes(files) < 1.2 * GROUP * 2000


def test_only_the_columns_that_are_wanted_are_fetched(files: WebServer, tmp_path: Path) -> None:
    dataset = ParquetDataset(ADDRESS, columns=["id"], cache_dir=tmp_path)
    files.requests.clear()
    assert dataset[3:5] == [{"id": 3}, {"id": 4}]
    assert asked_bytes(files) < 10 * GROUP * 8


def length(endpoint: str, cache_dir: Path) -> int:
    return len(ParquetDataset(ADDRESS, cache_dir=cache_dir, options={"endpoint": endpoint}))


def test_other_ranks_of_a_machine_index_nothing_again(files: WebServer, tmp_path: Path) -> None:
    """litdata#562: each rank fetched and indexed all files of the hub."""
    endpoint = os.environ["HF_ENDPOINT"]  # which a forkserver of earlier tests does not have
    dataset = ParquetDataset(ADDRESS, cache_dir=tmp_path)
    dataset[7]
    files.requests.clear()
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.apply(length, (endpoint, tmp_path)) == FILES * ROWS
        assert pool.apply(dataset.__getitem__, (8,)) == row(8)
    assert files.requests == []


def test_a_footer_longer_than_the_first_look_is_read_whole(tmp_path: Path, s3: S3) -> None:
    columns = {f"column number {i} of very many, with a long name": [i, i + 1] for i in range(900)}
    parquet.write_table(pa.table(columns), tmp_path / "wide.parquet", row_group_size=1)
    location = s3.location()
    access: dict[str, Any] = {"credentials": s3.credentials, "options": s3.options}
    open_store(location, **access).put_file("wide.parquet", tmp_path / "wide.parquet")
    dataset = ParquetDataset(f"{location}/wide.parquet", cache_dir=tmp_path / "cache", **access)
    assert list(dataset[1].values()) == [i + 1 for i in range(900)]


@pytest.mark.parametrize("cache_bytes", [1, 250_000])
def test_a_bad_network_and_a_small_cache_change_no_row(
    folder: Path, s3: S3, faulty: Callable[[str], FaultyProxy], tmp_path: Path, cache_bytes: int
) -> None:
    location, proxy = s3.location(), faulty(s3.endpoint)
    direct = open_store(location, credentials=s3.credentials, options=s3.options)
    for path in (folder / "data").iterdir():
        direct.put_file(path.name, path)
    proxy.faulty = lambda method, path: method == "GET" and ".parquet" in path
    proxy.faults.extend(["503", "drop", "short", "reset"])
    options = {**s3.options, "endpoint": proxy.endpoint}
    access: dict[str, Any] = {"credentials": s3.credentials, "options": options}
    dataset = ParquetDataset(location, cache_dir=tmp_path, cache_bytes=cache_bytes, **access)
    assert dataset[:] == [row(i) for i in range(FILES * ROWS)]
    assert not proxy.faults
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < cache_bytes + 250_000


def test_a_remote_file_that_is_none_is_named(tmp_path: Path, s3: S3) -> None:
    location = s3.location()
    access: dict[str, Any] = {"credentials": s3.credentials, "options": s3.options}
    open_store(location, **access).put("a.parquet", b"PAR1 but not really PAR1")
    with pytest.raises(FormatError, match=r"s3://test/.*/a\.parquet"):
        ParquetDataset(location, cache_dir=tmp_path, **access)
    open_store(location, **access).put("a.parquet", b"x")
    with pytest.raises(FormatError, match=r"s3://test/.*/a\.parquet is no Parquet file"):
        ParquetDataset(location, cache_dir=tmp_path, **access)
