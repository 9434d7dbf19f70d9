"""Limits: version 1 for real where this machine lets us, version 2 on a tree of plain files."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cloud.runtime.cluster import wait_until

from blixt.cloud.engines import cgroups
from blixt.cloud.engines.cgroups import Cgroups, CgroupsV2, Limits
from blixt.cloud.engines.launch import launch

FOLDER = f"blixt-test-{os.getpid()}"


@pytest.fixture
def real() -> Iterator[Cgroups]:
    found = cgroups.probe(FOLDER)
    if found is None:
        pytest.skip("this machine lets us write no control groups")
    yield found
    for name in found.names():
        found.remove(name)
    found.close()
    assert list(Path("/sys/fs/cgroup").glob(f"**/{FOLDER}")) == []


def test_memory_over_the_limit_is_killed(real: Cgroups, tmp_path: Path) -> None:
    attach = real.create("small", Limits(cpus=1, memory_bytes=64 << 20))
    script = f"import pathlib\nx = bytearray(300 << 20)\npathlib.Path({str(tmp_path / 'lived')!r}).touch()"
    _start(attach, ["/usr/bin/env", "python3", "-c", script])
    wait_until(lambda: real.pids("small") == [], "it was killed")
    assert not (tmp_path / "lived").exists()


def test_processes_over_the_limit_are_refused(real: Cgroups, tmp_path: Path) -> None:
    attach = real.create("few", Limits(cpus=1, memory_bytes=1 << 30, processes=3))
    out = tmp_path / "out"
    _start(attach, ["/bin/sh", "-c", f"for i in 1 2 3 4 5 6; do sleep 60 & done 2>{out}; wait"])
    wait_until(lambda: out.exists() and b"fork" in out.read_bytes(), "a fork was refused")


def test_removing_a_group_kills_what_is_in_it(real: Cgroups) -> None:
    attach = real.create("busy", Limits(cpus=1, memory_bytes=1 << 30))
    _start(attach, ["/bin/sh", "-c", "sleep 600 & sleep 600"])
    wait_until(lambda: len(real.pids("busy")) >= 2, "it runs")
    real.remove("busy")
    assert "busy" not in real.names()


def test_removing_an_absent_group_is_no_error(real: Cgroups) -> None:
    real.remove("never")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A version 2 mount with the server in /app."""
    (tmp_path / "fs" / "app").mkdir(parents=True)
    for folder in (tmp_path / "fs", tmp_path / "fs" / "app"):
        (folder / "cgroup.controllers").write_text("cpu memory pids")
        (folder / "cgroup.subtree_control").write_text("")
    (tmp_path / "own").write_text("0::/app\n")
    return tmp_path


def test_version_2_is_chosen_where_only_it_is_mounted(tree: Path) -> None:
    found = cgroups.probe("blixt-x", tree / "fs", tree / "own")
    assert found is not None
    assert found.version == "v2"
    assert (tree / "fs" / "app" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_version_2_writes_its_limits(tree: Path) -> None:
    groups = CgroupsV2(tree / "fs" / "app", "blixt-x")
    (attach,) = groups.create("job", Limits(cpus=1.5, memory_bytes=1 << 30, processes=9))
    group = tree / "fs" / "app" / "blixt-x" / "job"
    assert attach == group / "cgroup.procs"
    assert (group / "cpu.max").read_text() == "150000 100000"
    assert (group / "memory.max").read_text() == str(1 << 30)
    assert (group / "pids.max").read_text() == "9"


def test_version_2_kills_through_the_kernels_own_switch(tree: Path) -> None:
    groups = CgroupsV2(tree / "fs" / "app", "blixt-x")
    groups.create("job", Limits(cpus=1, memory_bytes=1 << 30))
    switch = tree / "fs" / "app" / "blixt-x" / "job" / "cgroup.kill"
    switch.write_text("")
    groups.remove("job")
    assert switch.read_text() == "1"


def test_a_tree_that_cannot_be_written_gives_no_limits(tmp_path: Path) -> None:
    assert cgroups.probe("blixt-x", tmp_path, tmp_path / "none") is None
    (tmp_path / "cgroup.controllers").write_text("")
    (tmp_path / "blixt-x").write_text("a file where the folder should be")
    assert cgroups.probe("blixt-x", tmp_path, tmp_path / "none") is None


def _start(attach: list[Path], command: list[str]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        launch(command, attach=attach, keep=(), output=null, env={"PATH": os.environ["PATH"]})
    finally:
        os.close(null)


def test_launch_gives_the_process_to_init(tmp_path: Path) -> None:
    out = tmp_path / "parent"
    _start([], ["/bin/sh", "-c", f"sleep 0.1; ps -o ppid= -p $$ > {out}"])
    wait_until(lambda: out.exists() and out.read_text().strip() != "", "it wrote its parent")
    assert int(out.read_text()) != os.getpid()
    with pytest.raises(subprocess.CalledProcessError):
        _start([tmp_path / "no" / "such" / "group"], ["true"])
