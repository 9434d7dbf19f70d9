"""kill -9 at the worst moment: what runs goes on, nothing is lost, nothing is paid twice."""

import os
import signal
from pathlib import Path

import pytest
from tests.cloud.runtime.cluster import Cluster, wait_until

from blixt.cloud import supervisor

LINES = 400


@pytest.mark.usefixtures("sandbox")
def test_a_job_outlives_the_server_and_its_log_has_no_hole(cluster: Cluster) -> None:
    loop = f"for i in $(seq 1 {LINES}); do echo line $i; sleep 0.01; done"
    command = f"{loop}; cp /run/blixt/log/0.log teamspace/truth"
    cluster.create("jobs", "survivor", command=command)
    wait_until(lambda: "line 20\n" in cluster.log_text("jobs/survivor"), "it writes")
    cluster.kill_server()
    cluster.kill_server()
    status = cluster.wait_state("jobs", "survivor", "succeeded", "failed", "stopped")["status"]
    assert (status["state"], status["attempt"]) == ("succeeded", 1), status
    text = cluster.log_text("jobs/survivor")
    assert text == "".join(f"line {i}\n" for i in range(1, LINES + 1))
    truth = cluster.data_dir / "volumes" / "default" / "shared" / "truth"
    assert truth.read_text() == text
    (line,) = cluster.bill_lines("survivor")
    assert (line["segments"], line["open"]) == (1, False)


METRICS = """
import time
from blixt.fabric import BlixtLogger
logger = BlixtLogger(send_every_s=0.05)
for step in range(300):
    logger.log_metrics({"loss": step}, step)
    time.sleep(0.02)
logger.finalize("success")
"""


def test_a_jobs_metrics_have_no_hole_and_no_duplicate_over_two_crashes(cluster: Cluster) -> None:
    cluster.create("jobs", "measured", command=["python", "-c", METRICS])
    run = "teamspaces/default/experiments/measured/runs/measured/metrics"

    def steps() -> list[int]:
        answer = cluster.http.get(run)
        return answer.json().get("loss", {}).get("step", []) if answer.status_code == 200 else []

    wait_until(lambda: len(steps()) > 20, "rows arrive")
    cluster.kill_server()
    seen = len(steps())
    wait_until(lambda: len(steps()) > min(seen, 299), "rows arrive again, unless all are there")
    cluster.kill_server()
    status = cluster.wait_state("jobs", "measured", "succeeded", "failed", "stopped")["status"]
    assert (status["state"], status["attempt"]) == ("succeeded", 1), status
    assert steps() == list(range(300))


def test_a_job_that_ends_while_the_server_is_away_is_not_run_again(cluster: Cluster) -> None:
    command = "echo once >> teamspace/ran; echo done"
    cluster.create("jobs", "quick", command=command)
    cluster.kill_server()
    status = cluster.wait_state("jobs", "quick", "succeeded", "failed", "stopped")["status"]
    assert status["state"] == "succeeded", status
    assert (cluster.data_dir / "volumes" / "default" / "shared" / "ran").read_text() == "once\n"
    (line,) = cluster.bill_lines("quick")
    assert line["segments"] == 1


def test_a_studio_and_its_shell_outlive_the_server(cluster: Cluster) -> None:
    cluster.create("studios", "lasting")
    first = cluster.exec("lasting", "echo $$ > /tmp/mark; cat /tmp/mark")
    cluster.kill_server()
    wait_until(lambda: cluster.get("studios", "lasting")["status"]["agent_connected"], "the agent is back")
    assert cluster.exec("lasting", "cat /tmp/mark").stdout == first.stdout
    (line,) = cluster.bill_lines("lasting")
    assert line["segments"] == 1


def test_a_model_is_uploaded_once_although_the_server_dies_in_the_middle(cluster: Cluster) -> None:
    command = "head -c 60000000 /dev/urandom > $BLIXT_MODEL_OUT/w.bin; echo made"
    cluster.create("jobs", "publisher", command=command, model="big")
    wait_until(lambda: "made" in cluster.log_text("jobs/publisher"), "the file is there")
    cluster.kill_server()
    status = cluster.wait_state("jobs", "publisher", "succeeded", "failed", "stopped")["status"]
    assert (status["state"], status["model_version"]) == ("succeeded", 1), status
    versions = cluster.http.get("teamspaces/default/models/big/versions").json()["items"]
    assert [(v["version"], v["state"]) for v in versions] == [(1, "ready")]


@pytest.mark.usefixtures("sandbox")
def test_down_after_everything_was_killed_releases_what_was_left(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data")
    cluster.create("studios", "left")
    cluster.wait_state("studios", "left", "running")
    allocation = cluster.get("studios", "left")["status"]["allocation"]
    agent = cluster.agent_pid(allocation)
    status = supervisor.status(cluster.data_dir)
    assert status.supervisor_pid is not None
    os.kill(status.supervisor_pid, signal.SIGKILL)
    os.kill(cluster.server_pid, signal.SIGKILL)
    wait_until(lambda: not supervisor.status(cluster.data_dir).running, "the server is dead")
    assert Path(f"/proc/{agent}").exists()
    assert supervisor.down(cluster.data_dir) is True
    wait_until(lambda: not Path(f"/proc/{agent}").exists(), "the agent is reaped")
    assert supervisor.down(cluster.data_dir) is False


def test_a_second_server_on_the_same_folder_is_refused(cluster: Cluster) -> None:
    with pytest.raises(supervisor.SupervisorError, match="Another server is running") as refused:
        supervisor.up(cluster.data_dir, port=0, detach=True)
    assert refused.value.exit_code == 5


def test_a_server_without_its_supervisor_goes_on_and_can_be_stopped(cluster: Cluster) -> None:
    """The last test of this module: it ends the shared server."""
    status = supervisor.status(cluster.data_dir)
    assert status.restarts >= 1
    assert status.supervisor_pid is not None
    os.kill(status.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: supervisor.status(cluster.data_dir).supervisor_pid is None, "it is noticed")
    assert supervisor.status(cluster.data_dir).running
    assert cluster.exec("lasting", "echo still here").stdout == "still here\n"
    assert supervisor.down(cluster.data_dir) is True
    assert not supervisor.status(cluster.data_dir).running
