"""Several processes share one build: by rank, or by leases; each unit counts once and one commit is made."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blixt.data import BuildError, Dataset, Leases, Ranks, optimize
from blixt.data.build.executors import leases
from blixt.data.build.executors.ranks import run_id_of
from blixt.data.build.job import Job, open_job
from blixt.data.snapshot import latest_version
from blixt.data.store import open_store

from ..servers.seaweed import S3
from . import functions
from .functions import number

DEADLINE_S = 120
Node = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def node() -> Iterator[Node]:
    """Start a process that makes one call; all are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(environment: dict[str, str] | None = None, **call: Any) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, functions.__file__, json.dumps(call)],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def answer(process: "subprocess.Popen[str]") -> dict[str, int]:
    out, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    return json.loads(out)


def calls(folder: Path) -> list[int]:
    return sorted(int(line) for line in (folder / "calls").read_text().split())


def xs(folder: Path) -> list[int]:
    return [sample["x"] for sample in Dataset(folder)]


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {DEADLINE_S} s"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("rank", "count"),
    [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"), ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS")],
)
def test_ranks_from_the_environment_share_the_units(
    tmp_path: Path, node: Node, rank: str, count: str
) -> None:
    out = tmp_path / "out"
    call = {"executor": "ranks", "folder": str(tmp_path), "inputs": [60], "output": str(out), "unit_size": 5}
    ranks = [node({rank: str(r), count: "3"}, num_workers=1 if r else 0, **call) for r in range(3)]
    assert [answer(process) for process in ranks] == [{"version": 1, "rows": 60}] * 3
    assert calls(tmp_path) == list(range(60))
    assert xs(out) == list(range(60))
    assert latest_version(out) == 1


def test_an_append_by_several_nodes_appends_once(tmp_path: Path, node: Node) -> None:
    """LitData's multi-node append duplicates chunks (its commit 4184f87d was never merged)."""
    out = tmp_path / "out"
    optimize(number, range(10), out, num_workers=0)
    call = {"executor": "ranks", "folder": str(tmp_path), "inputs": [10, 50], "output": str(out)}
    nodes = [
        node({"RANK": str(r), "WORLD_SIZE": "2"}, num_workers=0, mode="append", unit_size=4, **call)
        for r in range(2)
    ]
    assert [answer(process) for process in nodes] == [{"version": 2, "rows": 50}] * 2
    assert xs(out) == list(range(50))


def test_a_rank_that_is_started_once_more_after_the_end_returns_what_was_published(tmp_path: Path) -> None:
    for mode in ("error", "append"):
        for _ in range(2):
            snapshot = optimize(
                number,
                range(10),
                tmp_path / mode,
                num_workers=0,
                mode=mode,  # type: ignore[arg-type]
                executor=Ranks(0, 1, run_id="run-7"),
            )
            assert (snapshot.version, snapshot.rows) == (1, 10)
    optimize(number, range(10), tmp_path / "append", num_workers=0, mode="append", executor=Ranks(0, 1))
    assert xs(tmp_path / "append") == [*range(10)] * 2


def test_the_failure_of_a_rank_is_the_failure_of_all(tmp_path: Path, node: Node) -> None:
    out = tmp_path / "out"
    call = {"executor": "ranks", "folder": str(tmp_path), "inputs": [40], "output": str(out), "bad": 17}
    waiting = node({"RANK": "0", "WORLD_SIZE": "2"}, num_workers=0, unit_size=5, **call)
    wait_for(lambda: len(list(out.glob(".build/*/done/*.json"))) == 4, "the part of rank 0")
    failing = node({"RANK": "1", "WORLD_SIZE": "2"}, num_workers=0, unit_size=5, **call)
    assert "BuildError: input 17 (17): ValueError: broken" in failing.communicate(timeout=DEADLINE_S)[1]
    assert (
        "BuildError: another rank failed: BuildError: input 17" in waiting.communicate(timeout=DEADLINE_S)[1]
    )
    (tmp_path / "mended").touch()
    again = [node({"RANK": str(r), "WORLD_SIZE": "2"}, num_workers=0, unit_size=5, **call) for r in range(2)]
    assert [answer(process)["rows"] for process in again] == [40, 40]


def test_ranks_that_wait_in_vain_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"which finished no unit meanwhile; 2 units are missing \(1, 3"):
        optimize(number, range(20), tmp_path, num_workers=0, unit_size=5, executor=Ranks(0, 2), wait_s=0.2)


def test_ranks_need_to_know_who_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BuildError, match="executor='ranks' needs RANK and WORLD_SIZE, or SLURM_PROCID"):
        optimize(number, range(3), tmp_path, executor="ranks")
    with pytest.raises(BuildError, match="rank 2 is not one of the 2 ranks 0 to 1"):
        Ranks(2, 2)
    with pytest.raises(ValueError, match="executor must be one of local, ranks, leases, ray"):
        optimize(number, range(3), tmp_path, executor="slurm")


def test_a_run_is_named_by_slurm_or_torchrun() -> None:
    assert run_id_of({"SLURM_JOB_ID": "3", "SLURM_STEP_ID": "1"}) == "slurm-3-1"
    assert run_id_of({"TORCHELASTIC_RUN_ID": "abc"}) == "torchrun-abc"
    assert run_id_of({"TORCHELASTIC_RUN_ID": "none"}) is None


def test_a_queue_belongs_to_one_machine(tmp_path: Path) -> None:
    import queue

    with pytest.raises(BuildError, match="drain it into a list before machines share it"):
        optimize(number, queue.SimpleQueue(), tmp_path, executor=Ranks(0, 1), num_workers=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_nodes_with_leases_share_the_units(tmp_path: Path, node: Node, workers: int) -> None:
    out = tmp_path / "out"
    call = {"folder": str(tmp_path), "inputs": [120], "output": str(out), "unit_size": 5}
    nodes = [node(executor={"run_id": "one"}, num_workers=workers, **call) for _ in range(3)]
    assert [answer(process) for process in nodes] == [{"version": 1, "rows": 120}] * 3
    assert calls(tmp_path) == list(range(120))
    assert xs(out) == list(range(120))
    assert len(list((out / "shards").iterdir())) == 24
    assert [path.name[:10] for path in out.glob(".build/**/*") if path.is_file()] == ["committed-"]


def test_the_units_of_a_killed_node_are_taken_over(tmp_path: Path, node: Node) -> None:
    out = tmp_path / "out"
    call = {"folder": str(tmp_path), "inputs": [40], "output": str(out), "unit_size": 5, "num_workers": 0}
    first = node(executor={"run_id": "one"}, places={12: "go"}, **call)
    wait_for(lambda: (tmp_path / "calls").exists() and 12 in calls(tmp_path), "the third unit")
    first.send_signal(signal.SIGKILL)
    first.wait(DEADLINE_S)
    (tmp_path / "go").touch()
    second = node(executor={"run_id": "one"}, places={12: "go"}, **call)
    assert answer(second) == {"version": 1, "rows": 40}
    assert calls(tmp_path) == sorted([*range(40), 10, 11, 12])
    assert xs(out) == list(range(40))


def lease_job(folder: Path) -> Job:
    return open_job(open_store(folder), "key", unit_size=1, dataset_id=None, since=0, shared=True)


def beat_of(job: Job, holder: Leases) -> bytes:
    return job.store.get(f"{job.folder}/beats/{holder.holder}")


def test_a_holder_that_lives_keeps_its_lease_and_one_that_leaves_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder really beats; the clock of the one who looks runs on by less than its patience each time."""
    job, first, second = lease_job(tmp_path), Leases(ttl_s=0.15), Leases(ttl_s=0.15)
    now = 0.0
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: now))
    assert first.claim(job, [0]) == 0
    for _ in range(4):
        assert second.claim(job, [0]) is None
        seen = beat_of(job, first)
        wait_for(lambda seen=seen: beat_of(job, first) != seen, "the next beat")
        now += 0.9 * second.ttl_s
    first.finish(job, None)
    assert second.claim(job, [0]) == 0
    second.finish(job, None)


def test_a_silent_holder_on_another_machine_loses_its_lease_to_one(tmp_path: Path) -> None:
    job = lease_job(tmp_path)
    owner = {"machine": "elsewhere", "pid": 1, "started": "1"}
    job.store.put(f"{job.folder}/leases/00000000.0001", json.dumps({"holder": "gone"}).encode())
    job.store.put(f"{job.folder}/beats/gone", json.dumps({"owner": owner, "count": 1}).encode())
    nodes, taken = [Leases(ttl_s=1.5), Leases(ttl_s=1.5)], list[int]()

    def try_all() -> bool:
        taken.extend(index for index, one in enumerate(nodes) if one.claim(job, [0]) == 0)
        return bool(taken)

    assert not try_all()
    wait_for(try_all, "the takeover")
    assert not try_all() or len(taken) == 1
    assert len(taken) == 1
    for one in nodes:
        one.finish(job, None)


def test_a_unit_that_was_finished_before_its_holder_fell_silent_is_not_taken(tmp_path: Path) -> None:
    job = lease_job(tmp_path)
    job.store.put(f"{job.folder}/leases/00000000.0001", json.dumps({"holder": "gone"}).encode())
    job.store.put(job.note_of(0), b"{}")
    one = Leases()
    assert one.claim(job, [0]) is None
    one.finish(job, None)


def test_nodes_share_a_build_in_a_bucket(s3: S3, tmp_path: Path, node: Node) -> None:
    out = s3.location()
    call = {"folder": str(tmp_path), "inputs": [40], "output": out, "unit_size": 5, "num_workers": 0}
    call |= {"credentials": s3.credentials, "options": s3.options}
    first = node(executor={"run_id": "one", "ttl_s": 60.0}, places={12: "go"}, **call)
    wait_for(lambda: (tmp_path / "calls").exists() and 12 in calls(tmp_path), "the third unit")
    others = [node(executor={"run_id": "one", "ttl_s": 60.0}, places={12: "go"}, **call) for _ in range(2)]
    wait_for(lambda: len(calls(tmp_path)) == 38, "the other units")
    first.send_signal(signal.SIGKILL)
    (tmp_path / "go").touch()
    assert [answer(other) for other in others] == [{"version": 1, "rows": 40}] * 2
    cache: dict[str, Any] = {
        "cache_dir": tmp_path / "cache",
        "credentials": s3.credentials,
        "options": s3.options,
    }
    assert list(Dataset(out, **cache)) == [{"x": i} for i in range(40)]
    assert calls(tmp_path) == sorted([*range(40), 10, 11, 12])


def test_builds_of_other_inputs_do_not_share(tmp_path: Path) -> None:
    leave = partial(optimize, number, output=tmp_path, num_workers=0, unit_size=5, wait_s=0.1)
    with pytest.raises(BuildError, match="units are missing"):
        leave(inputs=range(20), executor=Ranks(0, 2))
    with pytest.raises(BuildError, match="2 units are missing"):
        leave(inputs=range(100, 120), executor=Ranks(1, 2))
