"""A file that somebody cuts short while it is mapped: an error that names it, no crash, no wrong sample."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import Dataset, DatasetWriter, FormatError, Loader, TokenDataset, Tokens, verify
from blixt.data.cache_file import CacheFile
from blixt.data.filemap import FileMap, confirm
from blixt.data.foreign import LitDataDataset

from .samples import write_dataset

PAGE = 4096


def sample(i: int) -> dict[str, Any]:
    return {"i": i, "raw": bytes([i % 255 + 1]) * 3000, "fixed": np.full(100, i, np.int32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", [sample(i) for i in range(200)])


def shard_of(folder: Path) -> Path:
    [path] = (folder / "shards").iterdir()
    return path


def good(found: Any, i: int) -> bool:
    return found["i"] == i and found["raw"] == sample(i)["raw"] and (found["fixed"] == i).all()


@pytest.mark.parametrize("left", ["all but one byte", "half a page less", "half", "nothing"])
def test_one_row_a_slice_and_a_batch_are_refused_wherever_the_file_ends(left: str, folder: Path) -> None:
    dataset, path = Dataset(folder), shard_of(folder)
    size = path.stat().st_size
    assert all(good(dataset[i], i) for i in range(200))  # every page was touched, every block was checked
    cut = {
        "all but one byte": size - 1,
        "half a page less": size - PAGE // 2,
        "half": size // 2,
        "nothing": 0,
    }
    os.truncate(path, cut[left])
    refused = pytest.raises(
        FormatError, match=rf"{path.name} was cut short .* has {cut[left]} bytes, and had"
    )
    for read in (lambda: dataset[199], lambda: dataset[3:9], lambda: dataset.read_batch([5, 1])):
        with refused:
            read()


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_a_loader_ends_with_an_error_and_gave_no_wrong_row_before(mode: Any, folder: Path) -> None:
    path, seen = shard_of(folder), list[int]()

    def read() -> None:
        for batch in Loader(Dataset(folder), 4, mode=mode, workers=1, prefetch=1):
            for i, raw, fixed in zip(batch["i"].tolist(), batch["raw"], batch["fixed"], strict=True):
                assert good({"i": i, "raw": raw, "fixed": fixed}, i)
                seen.append(i)
            if len(seen) == 40:
                os.truncate(path, path.stat().st_size // 4)

    with pytest.raises(FormatError, match=f"{path.name} was cut short"):
        read()
    assert seen == list(range(len(seen)))
    assert 40 <= len(seen) < 200


def test_tokens_are_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "t") as writer:
        for i in range(50):
            writer.write(Tokens(np.full(1000, i + 1), "uint16"))
    tokens = TokenDataset(tmp_path / "t", 100)
    assert all(tokens[i].all() for i in range(len(tokens)))
    os.truncate(shard_of(tmp_path / "t"), 30_000)
    with pytest.raises(FormatError, match="was cut short"):
        tokens[len(tokens) - 1]


def test_what_was_never_read_before_is_refused_too_and_verify_names_it(folder: Path) -> None:
    dataset, path = Dataset(folder), shard_of(folder)
    assert good(dataset[0], 0)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(FormatError, match=f"{path.name} was cut short"):
        dataset[150]
    assert any(path.name in str(problem) for problem in verify(folder).problems)


def test_a_shard_of_another_format_is_refused(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "foreign/fixtures/litdata-0.2.58/tree", tmp_path / "old")
    dataset = LitDataDataset(tmp_path / "old")
    assert len(dataset[:]) == len(dataset) == 10
    for path in (tmp_path / "old").glob("*.bin"):
        os.truncate(path, path.stat().st_size // 2)
    for i in range(len(dataset)):
        with pytest.raises(FormatError, match=r"chunk-0-\d\.bin"):
            dataset[i]


def test_a_view_that_is_held_reads_zeros_and_the_map_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 5 * PAGE)
    with path.open("rb") as file:
        mapped = FileMap(file.fileno(), name="file a")
    view = memoryview(mapped)
    mapped.confirm()
    os.truncate(path, PAGE + 5)
    assert bytes(view[: PAGE + 5]) == b"x" * (PAGE + 5)
    mapped_end = bytes(view[PAGE + 5 :])
    assert mapped_end == bytes(len(mapped_end))
    with pytest.raises(
        FormatError, match=f"file a was cut short .* it has {PAGE + 5} bytes, and had {5 * PAGE}"
    ):
        mapped.confirm()
    os.truncate(path, 5 * PAGE)  # as long as before, but what was there is gone
    with pytest.raises(FormatError):
        mapped.confirm()


def test_a_file_that_ends_in_zeros_is_well(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    with path.open("rb") as file:
        FileMap(file.fileno(), name="file a").confirm()


OTHER = """
import faulthandler, mmap, os, sys
from blixt.data.cache_file import CacheFile
from blixt.data.filemap import FileMap, confirm
path = sys.argv[1]
with open(path, "rb") as file:
    ours = FileMap(file.fileno(), name="ours")
    theirs = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate(path, 0)
print(ours[5000], flush=True)
theirs[5000]
"""


@pytest.mark.parametrize("options", [(), ("-X", "faulthandler")])
def test_faults_of_others_end_the_process_as_they_did(options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 5 * PAGE)
    command = [sys.executable, *options, "-c", OTHER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.stdout, done.returncode) == ("0\n", -7)
    assert ("Fatal Python error: Bus error" in done.stderr) == bool(options)


RACE = """
import json, os, sys, threading
import numpy as np
from blixt.data import Dataset, FormatError
folder, path = sys.argv[1:]
size = os.path.getsize(path)
whole = open(path, "rb").read()
refused = wrong = 0
for round in range(40):
    with open(path, "wb") as file:
        file.write(whole)
    dataset = Dataset(folder)
    dataset[:]
    cut = threading.Event()
    def cutter():
        cut.wait()
        os.truncate(path, size * (round % 10) // 10)
    thread = threading.Thread(target=cutter)
    thread.start()
    try:
        for pass_ in range(1000):
            cut.set()
            for row in dataset.items(np.arange(200)):
                wrong += row["raw"] != bytes([row["i"] % 255 + 1]) * 3000 or (row["fixed"] != row["i"]).any()
    except FormatError as problem:
        refused += os.path.basename(path) in str(problem)
    thread.join()
print(json.dumps([int(refused), int(wrong)]))
"""


def test_cutting_at_any_moment_of_a_read_never_kills_the_reader(folder: Path) -> None:
    command = [sys.executable, "-c", RACE, str(folder), str(shard_of(folder))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.returncode, json.loads(done.stdout or "null")) == (0, [40, 0]), done.stderr


def test_a_file_of_the_cache_that_somebody_cuts_is_named_too(tmp_path: Path) -> None:
    file = CacheFile(tmp_path / "entry", 10 * PAGE)
    file.fill(0, memoryview(b"x" * 10 * PAGE))
    reading = file.view[100:]
    confirm([reading])
    os.truncate(tmp_path / "entry", tmp_path.joinpath("entry").stat().st_size - 2 * PAGE)
    bytes(reading)
    with pytest.raises(FormatError, match=r"cached file .*entry was cut short"):
        confirm([reading])
