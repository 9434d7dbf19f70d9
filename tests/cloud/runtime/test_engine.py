"""The local engine alone: tokens, locks, limits, and what a crash of the server leaves behind."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cloud.runtime.cluster import wait_until

from blixt.cloud.engines import EngineError, LocalEngine, MachineRequest, sandbox
from blixt.cloud.engines.launch import Lock
from blixt.cloud.engines.local import group_folder


@pytest.fixture(params=["auto", "process"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(tmp_path / "data", isolation=request.param)
    yield made
    for machine in made.list():
        made.release(machine.token)
    made.close()


def _request(tmp_path: Path) -> MachineRequest:
    home, shared = tmp_path / "home", tmp_path / "shared"
    home.mkdir(exist_ok=True)
    shared.mkdir(exist_ok=True)
    return MachineRequest(
        machine="cpu-1",
        cpus=1,
        memory_gb=1,
        gpus=0,
        url="http://127.0.0.1:9",  # nobody listens: the agent keeps dialling
        agent_token="secret-token",
        teamspace="default",
        home=home,
        shared=shared,
        hostname="box",
    )


def test_one_token_starts_one_machine(engine: LocalEngine, tmp_path: Path) -> None:
    assert engine.allocate(_request(tmp_path), "a-1").alive
    assert engine.allocate(_request(tmp_path), "a-1").alive
    assert [machine.token for machine in engine.list()] == ["a-1"]
    assert len(_agents("a-1")) == 1


def test_threads_that_race_for_a_token_start_one_machine(engine: LocalEngine, tmp_path: Path) -> None:
    request = _request(tmp_path)
    racers = [threading.Thread(target=engine.allocate, args=(request, "race")) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(_agents("race")) == 1


def test_a_machine_outlives_the_process_that_started_it_and_is_found_again(tmp_path: Path) -> None:
    code = (
        "import sys, os, json; from pathlib import Path\n"
        "from blixt.cloud.engines import LocalEngine, MachineRequest\n"
        "values = json.loads(sys.argv[2])\n"
        "values |= {k: Path(values[k]) for k in ('home', 'shared')}\n"
        "LocalEngine(Path(sys.argv[1])).allocate(MachineRequest(**values), 'kept')\n"
        "os.kill(os.getpid(), 9)"
    )
    values = {key: str(v) if isinstance(v, Path) else v for key, v in _request(tmp_path).__dict__.items()}
    command = [sys.executable, "-c", code, str(tmp_path / "data"), json.dumps(values)]
    assert subprocess.run(command, check=False).returncode == -9
    engine = LocalEngine(tmp_path / "data")
    found = engine.find("kept")
    assert found is not None
    assert found.alive
    assert engine.allocate(_request(tmp_path), "kept").alive
    assert len(_agents("kept")) == 1
    engine.release("kept")
    assert engine.list() == []
    engine.close()


def test_a_machine_that_ended_is_never_started_again_under_its_token(
    engine: LocalEngine, tmp_path: Path
) -> None:
    engine.allocate(_request(tmp_path), "dead")
    for pid in _agents("dead"):
        os.kill(pid, 9)
    wait_until(lambda: not _alive(engine, "dead"), "it is dead")
    assert not engine.allocate(_request(tmp_path), "dead").alive
    assert not _alive(engine, "dead")


def test_release_leaves_no_process_group_or_folder(engine: LocalEngine, tmp_path: Path) -> None:
    engine.allocate(_request(tmp_path), "brief")
    pids = _agents("brief")
    engine.release("brief")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes are gone")
    assert engine.find("brief") is None
    engine.release("brief")
    engine.close()
    root = tmp_path / "data" / "engine" / "local"
    assert list(root.iterdir()) == []
    assert list(Path("/sys/fs/cgroup").glob(f"**/{group_folder(root)}")) == []


def test_an_unknown_token_is_not_found(engine: LocalEngine) -> None:
    assert engine.find("never") is None


def test_the_agents_token_is_in_a_private_file_and_on_no_command_line(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path / "data")
    engine.allocate(_request(tmp_path), "quiet")
    try:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (entry / "cmdline").exists():
                try:
                    assert b"secret-token" not in (entry / "cmdline").read_bytes()
                except OSError:
                    continue
        settings = tmp_path / "data" / "engine" / "local" / "quiet" / "run" / "agent.json"
        wait_until(lambda: not settings.exists(), "the agent removed its settings")
    finally:
        engine.release("quiet")
        engine.close()


@pytest.mark.usefixtures("sandbox")
def test_a_server_that_is_not_root_builds_a_user_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    engine = LocalEngine(tmp_path / "data", isolation="sandbox")
    engine.allocate(_request(tmp_path), "mapped")
    try:
        (agent,) = _agents("mapped")
        assert os.readlink(f"/proc/{agent}/ns/user") != os.readlink("/proc/self/ns/user")
        assert Path(f"/proc/{agent}/uid_map").read_text().split() == ["1000", str(os.getuid()), "1"]
        settings = tmp_path / "data" / "engine" / "local" / "mapped" / "run" / "agent.json"
        wait_until(lambda: not settings.exists(), "the agent read its settings")
    finally:
        engine.release("mapped")
        engine.close()


def test_no_sandbox_means_a_warning_or_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "bwrap_path", lambda: None)
    assert "WITHOUT a sandbox" in LocalEngine(tmp_path / "a").warning
    with pytest.raises(EngineError, match="bubblewrap is not installed"):
        LocalEngine(tmp_path / "b", isolation="sandbox")


def test_a_lock_is_free_when_its_holder_is_gone(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    fd = lock.try_acquire()
    assert fd is not None
    assert lock.is_held()
    os.close(fd)
    assert not lock.is_held()


def test_teamspaces_have_stable_users_of_their_own() -> None:
    uids = {sandbox.sandbox_uid(name) for name in ("default", "team-a", "team-b")}
    assert len(uids) == 3
    assert min(uids) >= sandbox.FIRST_UID


def _alive(engine: LocalEngine, token: str) -> bool:
    found = engine.find(token)
    return found is not None and found.alive


def _agents(token: str) -> list[int]:
    """The allocation's agents, by the marker in their environment, once there is one."""
    wait_until(lambda: _marked(token) != [], "an agent runs")
    return _marked(token)


def _marked(token: str) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mine = f"BLIXT_ALLOCATION={token}".encode() in environment
        if mine and b"blixt.cloud.agent" in words and Path(words[0].decode()).name.startswith("python"):
            found.append(int(entry.name))
    return found
