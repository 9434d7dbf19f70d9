"""Output to S3 and inputs from S3, on a real server, and through a proxy that misbehaves."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset, DatasetWriter, list_files, map, optimize
from blixt.data.build.leftovers import sweep
from blixt.data.snapshot import load
from blixt.data.store import StoreError, UnavailableError, open_store

from ..servers.azurite import Azure
from ..servers.faulty import FaultyProxy
from ..servers.seaweed import S3
from . import functions
from .functions import copy_below, file_name, number, write_below


def access(s3: S3) -> dict[str, Any]:
    return {"credentials": s3.credentials, "options": s3.options}


def rows(s3: S3, location: str, cache: Path) -> list[Any]:
    return list(Dataset(location, cache_dir=cache, **access(s3)))


def paths(s3: S3, location: str) -> list[str]:
    return sorted(path for path, _ in open_store(location, **access(s3)).list())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_is_written_to_a_bucket_and_nothing_else_stays(
    s3: S3, tmp_path: Path, workers: int
) -> None:
    out = s3.location()
    optimize(number, range(100), out, num_workers=workers, unit_size=20, scratch_dir=tmp_path, **access(s3))
    assert rows(s3, out, tmp_path / "cache") == [{"x": i} for i in range(100)]
    assert {path.split("/")[0] for path in paths(s3, out)} <= {
        "index.json",
        "index.bin",
        "shards",
        "versions",
    }
    assert not list(tmp_path.glob("blixt-build-*"))


def test_a_dataset_is_written_to_azure(azure: Azure, tmp_path: Path) -> None:
    out, reach = azure.location(), {"credentials": azure.credentials, "options": azure.options}
    optimize(number, range(50), out, num_workers=0, unit_size=20, **reach)
    optimize(number, range(50, 60), out, num_workers=0, mode="append", **reach)
    assert list(Dataset(out, cache_dir=tmp_path, **reach)) == [{"x": i} for i in range(60)]


def test_a_bucket_is_appended_to_and_overwritten(s3: S3, tmp_path: Path) -> None:
    out = s3.location()
    for mode, start in (("append", 0), ("append", 10), ("overwrite", 50)):
        optimize(number, range(start, start + 10), out, num_workers=0, mode=mode, **access(s3))  # type: ignore[arg-type]
    assert rows(s3, out, tmp_path) == [{"x": i} for i in range(50, 60)]
    assert load(open_store(out, **access(s3)), 2).rows == 20


def test_a_writer_writes_to_a_bucket(s3: S3, tmp_path: Path) -> None:
    out = s3.location()
    with DatasetWriter(out, chunk_size=7, scratch_dir=tmp_path, **access(s3)) as writer:
        for i in range(20):
            writer.write({"x": i})
    assert rows(s3, out, tmp_path / "cache") == [{"x": i} for i in range(20)]
    assert len([path for path in paths(s3, out) if path.startswith("shards/")]) == 3
    assert not list(tmp_path.glob("blixt-build-*"))


def test_map_writes_to_a_bucket(s3: S3) -> None:
    out = s3.location()
    names = map(write_below, range(9), out, num_workers=2, unit_size=2, **access(s3))
    assert paths(s3, out) == names
    assert open_store(out, **access(s3)).get("2/deep/8.bin") == bytes(8)


def test_two_equal_builds_into_one_bucket_at_the_same_time_make_one_dataset(s3: S3, tmp_path: Path) -> None:
    out = s3.location()
    call = {"executor": "local", "folder": str(tmp_path), "inputs": [60], "output": out, "unit_size": 5}
    call |= {"num_workers": 0, **access(s3)}
    command = [sys.executable, functions.__file__, json.dumps(call)]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(one.communicate(timeout=240)[0]) for one in pair]
    assert answers == [{"version": 1, "rows": 60}] * 2
    assert rows(s3, out, tmp_path / "cache") == [{"x": i} for i in range(60)]
    store = open_store(out, **access(s3))
    assert {path for path, _ in store.list("shards")} == {f"shards/{f}" for f in load(store).shards.files()}


def fill(s3: S3, count: int) -> str:
    location = s3.location()
    store = open_store(location, **access(s3))
    for i in range(count):
        store.put(f"raw/{i:02d}.jpg", bytes(i))
    store.put("raw/notes.txt", b"not a picture")
    return location


@pytest.mark.parametrize("name", ["s3", "r2"])
def test_files_of_a_bucket_are_listed_fetched_ahead_and_removed(s3: S3, tmp_path: Path, name: str) -> None:
    place = fill(s3, 12)
    source = place.replace("s3://", f"{name}://")
    pictures = list_files(source, [".JPG"], **access(s3))
    assert pictures == [f"{place}/raw/{i:02d}.jpg" for i in range(12)]
    optimize(
        file_name,
        pictures,
        tmp_path / "out",
        num_workers=2,
        unit_size=4,
        input_dir=source,
        input_options=access(s3),
        scratch_dir=tmp_path / "scratch",
    )
    assert list(Dataset(tmp_path / "out")) == [{"name": f"{i:02d}.jpg", "size": i} for i in range(12)]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_files_go_from_one_bucket_to_another(s3: S3) -> None:
    source, out = fill(s3, 6), s3.location()
    map(
        partial(copy_below, "seen: "),
        list_files(source, [".jpg"], **access(s3)),
        out,
        num_workers=2,
        unit_size=2,
        input_dir=source,
        input_options=access(s3),
        **access(s3),
    )
    assert open_store(out, **access(s3)).get("05.jpg") == b"seen: " + bytes(5)


def test_a_missing_input_file_is_named(s3: S3, tmp_path: Path) -> None:
    source = fill(s3, 2)
    with pytest.raises(StoreError, match=r"raw/77.jpg"):
        optimize(
            file_name,
            [f"{source}/raw/00.jpg", f"{source}/raw/77.jpg"],
            tmp_path,
            num_workers=0,
            input_dir=source,
            input_options=access(s3),
        )


def proxied(s3: S3, proxy: FaultyProxy) -> dict[str, Any]:
    return {"credentials": s3.credentials, "options": {**s3.options, "endpoint": proxy.endpoint}}


def test_uploads_survive_a_store_that_fails_now_and_then(
    s3: S3, faulty: Callable[[str], FaultyProxy], tmp_path: Path
) -> None:
    proxy, out = faulty(s3.endpoint), s3.location()
    proxy.faults.extend(["503", "reset", "503", "drop"])
    optimize(number, range(60), out, num_workers=2, unit_size=10, **proxied(s3, proxy))
    assert not proxy.faults
    assert rows(s3, out, tmp_path) == [{"x": i} for i in range(60)]


def test_a_store_that_refuses_for_good_fails_the_build_which_then_goes_on(
    s3: S3, faulty: Callable[[str], FaultyProxy], tmp_path: Path
) -> None:
    proxy, out = faulty(s3.endpoint), s3.location()
    proxy.faulty = lambda method, path: (
        method in ("PUT", "POST") and path.endswith(".shard") and "-000002-" in path
    )
    proxy.always = "503"
    with pytest.raises(UnavailableError, match=r"shards/.*-000002-"):
        optimize(number, range(60), out, num_workers=0, unit_size=10, **proxied(s3, proxy))
    assert not [path for path in paths(s3, out) if path.startswith("versions/")]
    proxy.always = None
    optimize(number, range(60), out, num_workers=0, unit_size=10, **proxied(s3, proxy))
    assert rows(s3, out, tmp_path) == [{"x": i} for i in range(60)]
    shards = [path for path in paths(s3, out) if path.startswith("shards/")]
    assert len(shards) == load(open_store(out, **access(s3))).shards.__len__()
    assert sweep(open_store(out, **access(s3))) == []
