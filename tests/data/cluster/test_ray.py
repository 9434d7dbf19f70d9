"""Units as tasks of a real Ray cluster of two nodes, of which a worker is killed in the middle of one."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blixt.data import BuildError, Dataset, optimize
from blixt.data.build import Ray

DEADLINE_S = 100


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes on this machine; starting them takes most of the time of these tests."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'ray[default]')")
    from ray.cluster_utils import Cluster

    # Ray imports jsonschema in every process, and that an optional checker which takes seconds to import;
    # a node gives up when its agent is not there in 15 s.
    without = tmp_path_factory.mktemp("without")
    (without / "rfc3987_syntax.py").write_text("raise ImportError('not needed here')\n")
    path = f"{without}:{Path(__file__).parents[2]}"
    variables = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    nodes = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_log_monitor": False}
    head = {**nodes, **ports(), "include_dashboard": False, "no_monitor": True}
    running = Cluster(initialize_head=True, head_node_args=head)
    try:
        running.add_node(**nodes, **ports())
        ray.init(address=running.address, log_to_driver=False)
        yield running
    finally:
        ray.shutdown()
        running.shutdown()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def ports() -> dict[str, int]:
    """Choose a node's ports: one that has to wait until its agents choose gives up on a busy machine."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in (*names, "runtime_env_agent_port")]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        chosen = [one.getsockname()[1] for one in sockets]
    return dict(zip((*names, "runtime_env_agent_port"), chosen, strict=True))


def noted(folder: Path, i: int) -> dict[str, int]:
    """Leave the node and process of each call; 25 waits to be killed, 100 and more for the other node."""
    import ray

    (folder / f"{i}-{os.getpid()}").write_text(ray.get_runtime_context().get_node_id())
    if i == 25:
        wait_for(lambda: (folder / "killed").exists())
    if i >= 100:
        wait_for(lambda: len(nodes_of(folder)) == 2)
    return {"x": i}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def nodes_of(folder: Path) -> set[str]:
    """Return the nodes that have left a note; a worker may be killed before it has written its own."""
    return {note.read_text() for note in folder.glob("*-*")} - {""}


def broken(i: int) -> dict[str, int]:
    if i == 7:
        raise ValueError("broken")
    return {"x": i}


def kill_who_waits(folder: Path) -> None:
    """Kill the worker which waits at input 25, as soon as it is seen."""
    wait_for(lambda: any(folder.glob("25-*")))
    for note in folder.glob("25-*"):
        os.kill(int(note.name.partition("-")[2]), signal.SIGKILL)
        (folder / "killed").touch()


def test_two_nodes_build_one_dataset_though_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    notes, out = tmp_path / "notes", tmp_path / "out"
    notes.mkdir()
    killer = threading.Thread(target=kill_who_waits, args=(notes,))
    killer.start()
    optimize(partial(noted, notes), range(200), out, unit_size=5, executor=Ray(in_flight=8), progress=False)
    killer.join()
    assert [sample["x"] for sample in Dataset(out)] == list(range(200))
    assert (notes / "killed").exists()
    assert len(list(notes.glob("25-*"))) == 2
    assert len(nodes_of(notes)) == 2
    assert len(list((out / "shards").iterdir())) == 40


def test_a_failing_input_is_named_and_the_rest_is_kept(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"input 7 \(7\): ValueError: broken"):
        optimize(broken, range(20), tmp_path, unit_size=5, executor="ray")
    assert not (tmp_path / "versions").exists()
