"""Up and down: what stops in good order leaves nothing, what cannot start says why in one sentence."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cloud.runtime.cluster import Cluster, processes_below, wait_until

from blixt.cloud import supervisor


def _mounts(below: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(below) in line]


def _groups(data_dir: Path) -> list[Path]:
    from blixt.cloud.engines.local import LocalEngine, group_folder

    assert LocalEngine.name == "local"
    return list(Path("/sys/fs/cgroup").glob(f"**/{group_folder(data_dir / 'engine' / 'local')}"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path / "data")
    yield running
    running.down()


def test_down_stops_everything_and_leaves_nothing(own: Cluster) -> None:
    cluster = own
    cluster.create("studios", "open")
    cluster.create("jobs", "running", command="sleep 600 & sleep 600", processes=2)
    cluster.create(
        "deployments", "serving", command="python -m http.server $PORT", health_path="/", min_replicas=1
    )
    cluster.exec("open", "nohup setsid sleep 600 >/dev/null 2>&1 & echo started")
    cluster.wait_state("jobs", "running", "running")
    cluster.wait_state("deployments", "serving", "ready")
    assert len(processes_below(cluster.data_dir)) > 3
    assert supervisor.down(cluster.data_dir) is True
    wait_until(lambda: processes_below(cluster.data_dir) == [], "no process is left")
    assert _mounts(cluster.data_dir) == []
    assert _groups(cluster.data_dir) == []
    assert list((cluster.data_dir / "engine" / "local").iterdir()) == []
    left = {entry.name for entry in cluster.data_dir.iterdir()}
    assert not left & {"api.sock", "server.json", "supervisor.json"}

    cluster.up()
    assert cluster.get("studios", "open")["status"]["reason"] == "The server was shut down."
    job = cluster.get("jobs", "running")["status"]
    assert (job["state"], job["reason"]) == ("stopped", "The server was shut down.")
    assert [line["open"] for line in cluster.bill_lines("running")] == [False]


def test_control_c_in_the_foreground_ends_it_well(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from blixt.cloud import supervisor\n"
        "sys.exit(supervisor.up(Path(sys.argv[1]), port=0, on_ready=lambda s: print(s.url, flush=True)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"http://127.0.0.1:")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) == 0
    process.stdout.close()
    assert not supervisor.status(tmp_path / "data").running


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(supervisor.SupervisorError, match=str(port)) as refused:
            supervisor.up(tmp_path / "data", port=port, detach=True)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)


def test_a_data_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(supervisor.SupervisorError, match="data folder") as refused:
        supervisor.up(tmp_path / "file" / "data", port=0)
    assert refused.value.exit_code == 4


def test_down_and_status_of_nothing_say_so(tmp_path: Path) -> None:
    assert supervisor.down(tmp_path) is False
    status = supervisor.status(tmp_path)
    assert (status.running, status.url, status.pid) == (False, None, None)
