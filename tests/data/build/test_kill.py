"""`kill -9` at random points of a build, 200 times: the output equals an undisturbed one, row by row."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from blixt.data import Dataset, verify
from blixt.data.snapshot import load

KILLS = 200
COUNT = 1200
DEADLINE_S = 280
JOB = """
    import hashlib, os, sys, time
    from blixt.data import optimize

    def samples(i):
        time.sleep(0.002)
        while os.stat(sys.argv[4]).st_size <= i:
            time.sleep(0.002)
        for k in range(i % 4):
            digest = hashlib.sha256(f"{i}/{k}".encode()).digest()
            yield {"i": i, "k": k, "blob": digest * (1 + i % 50), "text": f"sample {i}/{k}"}

    def inputs(count):
        yield from range(count)

    if __name__ == "__main__":
        out, count, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
        source = inputs(count) if kind == "generator" else range(count)
        optimize(samples, source, out, num_workers=2, unit_size=8, chunk_bytes=4000, max_attempts=10**6,
                 verbose=False)
"""


def run(script: Path, out: Path, kind: str, gate: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, script, out, str(COUNT), kind, gate], stderr=subprocess.PIPE, start_new_session=True
    )


def opened(gate: Path, share: float) -> Path:
    """Let a share of the inputs through the gate; the others wait, so that no build outruns its killer."""
    with open(gate, "ab") as file:
        file.truncate(round(COUNT * share))
    return gate


def share(killed: int) -> float:
    """Return which share of the inputs may be done after so many kills: some at once, never all."""
    return 0.05 + 0.9 * min(1.0, killed / (KILLS // 2))


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_for(condition: Callable[[], object], deadline: float) -> None:
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def workers(job: "subprocess.Popen[bytes]") -> list[int]:
    """The processes that the forkserver started."""
    return [child for server in descendants(job.pid) for child in descendants(server)]


@pytest.mark.parametrize(("kind", "parents"), [("list", 15), ("generator", 8)])
def test_a_build_that_is_killed_again_and_again_gives_what_an_undisturbed_one_gives(
    tmp_path: Path, kind: str, parents: int
) -> None:
    script, random_ = tmp_path / "job.py", random.Random(kind)
    script.write_text(textwrap.dedent(JOB))
    undisturbed = run(script, tmp_path / "undisturbed", kind, opened(tmp_path / "open", 1))
    deadline = time.monotonic() + DEADLINE_S
    out, gate, killed, killed_parents = tmp_path / "out", tmp_path / "gate", 0, 0
    while killed < KILLS // 2:
        job = run(script, out, kind, opened(gate, share(killed)))
        wait_for(lambda job=job: workers(job) or job.poll() is not None, deadline)
        for _ in range(random_.randrange(1, 2 * (KILLS // 2) // parents)):
            time.sleep(random_.random() * 0.03)
            alive = workers(job)
            if alive and kill(random_.choice(alive)):
                killed += 1
                opened(gate, share(killed))
        time.sleep(random_.random() * 0.05)
        assert job.poll() is None, f"the job ended after {killed} kills: {job.communicate()[1].decode()}"
        job.kill()
        killed, killed_parents = killed + 1, killed_parents + 1
        job.communicate()
        assert not (out / "versions").exists()
    assert killed_parents >= 3
    last = run(script, out, kind, opened(gate, 1))
    _, errors = last.communicate(timeout=DEADLINE_S)
    assert last.returncode == 0, errors
    undisturbed.communicate(timeout=DEADLINE_S)
    assert list(Dataset(out)) == list(Dataset(tmp_path / "undisturbed"))
    assert verify(out).ok
    assert {path.name for path in (out / "shards").iterdir()} == set(load(out).shards.files())
    assert not list(out.glob(".*"))
