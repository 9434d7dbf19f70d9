"""What killed builds and writers leave does not stay: the next one that starts removes it, or `prune`."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from blixt.data import BuildError, DataError, Dataset, DatasetWriter, SchemaError, optimize, prune
from blixt.data.build.leftovers import sweep
from blixt.data.build.owner import Owner, is_stale
from blixt.data.build.scratch import scratch_folder
from blixt.data.snapshot import load
from blixt.data.store import open_store

from ..servers.seaweed import S3
from .functions import noted_unless_broken, number

DEADLINE_S = 60
WRITER = """
    import json, sys, threading
    from blixt.data import DatasetWriter

    writer = DatasetWriter(sys.argv[1], chunk_size=2, mode="append", **json.loads(sys.argv[2]))
    for i in range(7):
        writer.write({"x": i})
    writer._output._close_shard(writer._output._open)
    for sending in writer._output._sending:
        sending.result()
    print("written", flush=True)
    threading.Event().wait()
"""


def killed_writer(folder: Path, out: str, **access: Any) -> None:
    """Leave what a writer leaves that is killed before it publishes."""
    script = folder / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    process = subprocess.Popen(
        [sys.executable, script, out, json.dumps(access)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.kill()
    process.communicate(timeout=DEADLINE_S)


def shards(out: Path) -> set[str]:
    return {path.name for path in (out / "shards").iterdir()}


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    optimize(number, range(5), out, num_workers=0)
    killed_writer(tmp_path, str(out))
    assert len(shards(out)) > 1
    with DatasetWriter(out, mode="append") as writer:
        writer.write({"x": 5})
    assert shards(out) == set(load(out).shards.files())
    assert not list(out.glob(".build/*/*"))


def test_the_next_build_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    killed_writer(tmp_path, str(tmp_path / "out"))
    optimize(number, range(5), tmp_path / "out", num_workers=0)
    assert shards(tmp_path / "out") == set(load(tmp_path / "out").shards.files())
    assert not (tmp_path / "out" / ".build").exists()


def test_prune_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    optimize(number, range(5), out, num_workers=0)
    killed_writer(tmp_path, str(out))
    left = shards(out) - set(load(out).shards.files())
    assert left
    assert set(prune(out)) >= left
    assert shards(out) == set(load(out).shards.files())


def test_what_a_killed_writer_left_in_a_bucket_is_removed(s3: S3, tmp_path: Path) -> None:
    out = s3.location()
    access: dict[str, Any] = {"credentials": s3.credentials, "options": s3.options}
    killed_writer(tmp_path, out, **access, scratch_dir=str(tmp_path / "scratch"))
    store = open_store(out, **access)
    assert len(list(store.list("shards"))) == 4
    assert len(sweep(store)) == 4
    assert not list(store.list())
    with scratch_folder(str(tmp_path / "scratch")):
        assert len(list((tmp_path / "scratch").iterdir())) == 1


def test_a_writer_that_lives_keeps_its_shards(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, chunk_size=2) as writer:
        for i in range(7):
            writer.write({"x": i})
        with DatasetWriter(tmp_path, chunk_size=2) as other:
            other.write({"x": 100})
        assert sweep(open_store(tmp_path)) == []
        writer._mode = "append"  # pyright: ignore[reportPrivateUsage]
    assert [sample["x"] for sample in Dataset(tmp_path)] == [100, *range(7)]


def test_a_writer_that_was_taken_for_dead_says_so_and_publishes_nothing(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, chunk_size=2)
    writer.write({"x": 1})
    note = next((tmp_path / ".build" / "writers").iterdir())
    note.write_text(json.dumps({**json.loads(note.read_text()), "owner": elsewhere(), "at": 0.0}))
    sweep(open_store(tmp_path))
    with pytest.raises(DataError, match="this writer was silent for so long"):
        writer.close()
    assert not (tmp_path / "versions").exists()


def elsewhere() -> dict[str, Any]:
    return {"machine": "elsewhere", "pid": 1, "started": "1"}


def test_a_process_is_known_to_be_dead_only_on_its_own_machine() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = Owner.current()
    assert mine.is_dead() is False
    assert Owner(mine.machine, mine.pid, "another start").is_dead() is True
    process.communicate(b"\n", timeout=DEADLINE_S)
    assert Owner(mine.machine, process.pid, "1").is_dead() is True
    assert Owner.from_json(elsewhere()).is_dead() is None
    assert is_stale({"owner": elsewhere(), "at": time.time() - 100}, 50)
    assert not is_stale({"owner": elsewhere(), "at": time.time() - 100}, 500)


def test_a_broken_build_of_another_machine_is_kept_for_a_day_and_then_removed(s3: S3, tmp_path: Path) -> None:
    out = s3.location()
    access: dict[str, Any] = {"credentials": s3.credentials, "options": s3.options}
    store = open_store(out, **access)

    def fn(i: int) -> dict[str, int]:
        return noted_unless_broken(tmp_path, 15, i)

    with pytest.raises(BuildError):
        optimize(fn, range(20), out, num_workers=0, unit_size=5, **access)
    path = next(path for path, _ in store.list(".build") if path.endswith("job.json"))
    store.put(path, json.dumps({**json.loads(store.get(path)), "owner": elsewhere()}).encode())
    optimize(number, range(20), out, num_workers=0, unit_size=10, **access)
    assert len(list(store.list("shards"))) == 3 + 2
    assert sweep(store) == []
    assert len(sweep(store, after_s=0.0)) == 3
    assert not list(store.list(".build"))
    assert list(Dataset(store.location, cache_dir=tmp_path / "cache", **access)) == [
        {"x": i} for i in range(20)
    ]


def test_a_full_disk_under_a_build_is_said_and_the_build_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """On a real small file system, in a mount namespace of its own."""
    script = tmp_path / "full.py"
    script.write_text(textwrap.dedent(FULL))
    command = ["unshare", "--map-root-user", "--mount", sys.executable, str(script), str(tmp_path)]
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=False).returncode:
        pytest.skip("this machine does not let users mount (no user namespaces)")
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "No space left on device; make room" in done.stdout
    assert done.stdout.splitlines()[-1] == "20 rows"


FULL = """
    import random, subprocess, sys
    from pathlib import Path
    from blixt.data import Dataset, WriteError, optimize, verify

    def blob(i):
        return {"x": i, "blob": random.Random(i).randbytes(100_000)}

    if __name__ == "__main__":
        disk = Path(sys.argv[1], "disk")
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
        try:
            optimize(blob, range(20), disk / "out", num_workers=2, unit_size=2)
        except WriteError as problem:
            print(problem)
        assert not (disk / "out" / "versions").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        optimize(blob, range(20), disk / "out", num_workers=2, unit_size=2)
        assert verify(disk / "out").ok
        assert [sample["x"] for sample in Dataset(disk / "out")] == list(range(20))
        print(len(Dataset(disk / "out")), "rows")
"""


def test_units_of_other_columns_leave_the_dataset_as_it_was(tmp_path: Path) -> None:
    optimize(number, range(5), tmp_path, num_workers=0)
    with pytest.raises(SchemaError):
        optimize(str, range(5), tmp_path, num_workers=0, mode="append")
    assert load(tmp_path).version == 1
