import os
import signal
from pathlib import Path

import pytest

from blixt.client import Client, Deployment, Job, Model, NotFound, StateError, WaitTimeout
from client.server import Server


def text(job: Job, rank: int = 0) -> str:
    return "".join(piece.text for piece in job.logs(follow=True, rank=rank))


def test_a_job_finds_its_source_and_its_environment(teamspace: Client, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "data.txt").write_text("from here\n")
    job = Job.run("cat lib/data.txt; echo $COLOUR", source=tmp_path, env={"COLOUR": "red"}, client=teamspace)
    assert text(job) == "from here\nred\n"
    assert job.wait(120, check=True).state == "succeeded"
    assert job.exit_code == 0


def test_each_rank_knows_its_place(teamspace: Client) -> None:
    job = Job.run("echo $RANK of $WORLD_SIZE", processes=2, machine="cpu-2", source=None, client=teamspace)
    assert [text(job, rank) for rank in (0, 1)] == ["0 of 2\n", "1 of 2\n"]
    mixed = list(job.logs(rank="all"))
    assert {piece.rank: piece.text for piece in mixed} == {0: "0 of 2\n", 1: "1 of 2\n"}


def test_a_failed_job_says_so_and_keeps_its_exit_code(teamspace: Client) -> None:
    job = Job.run(["sh", "-c", "exit 9"], name="bad", source=None, client=teamspace)
    with pytest.raises(StateError, match=r"The job 'bad' failed: .*9.*blixt job logs bad"):
        job.wait(120, check=True)
    assert job.exit_code == 9


def test_a_wait_with_a_deadline_gives_up_and_a_stop_ends_the_job(teamspace: Client) -> None:
    job = Job.run("sleep 600", source=None, client=teamspace)
    with pytest.raises(WaitTimeout):
        job.wait(0.2)
    assert job.stop().state == "stopped"


def test_what_a_job_leaves_becomes_a_model_version(teamspace: Client, tmp_path: Path) -> None:
    command = (
        """echo weights > $BLIXT_MODEL_OUT/w.bin; echo '{"loss": 1.25}' > $BLIXT_MODEL_OUT/metrics.json"""
    )
    job = Job.run(command, name="maker", model="thing", source=None, client=teamspace).wait(120, check=True)
    version = Model.get("thing", client=teamspace).version(job.model_version or 0)
    assert (version.job, version.metrics) == ("maker", {"loss": 1.25})
    folder = Model.get("thing", client=teamspace).download(dest=tmp_path / "v")
    assert (folder / "w.bin").read_text() == "weights\n"


def test_a_log_that_is_followed_has_no_hole_when_the_server_is_killed(
    server: Server, teamspace: Client
) -> None:
    lines = [f"line {number}\n" for number in range(60)]
    command = "for i in $(seq 0 59); do echo line $i; sleep 0.1; done"
    job = Job.run(command, name="steady", source=None, client=teamspace)
    seen, killed = "", False
    for piece in job.logs(follow=True):
        seen += piece.text
        if "line 10\n" in seen and not killed:
            os.kill(server.pid, signal.SIGKILL)
            killed = True
    assert seen == "".join(lines)
    assert job.wait(120).state == "succeeded"
    [line] = [line for line in teamspace.bill().lines if line.name == "steady"]
    assert line.segments == 1


def test_a_deployment_sleeps_wakes_answers_and_stops(teamspace: Client, tmp_path: Path) -> None:
    (tmp_path / "health").write_text("ok")
    deployment = Deployment.create(
        "files",
        command="python -m http.server $PORT --bind 127.0.0.1",
        source=tmp_path,
        client=teamspace,
    )
    assert deployment.status == "sleeping"
    assert deployment.wake(120) > 0
    assert deployment.wait_ready(120).state == "ready"
    assert [replica["state"] for replica in deployment.replicas] == ["ready"]
    deployment.stop()
    assert deployment.wait_stopped(120).replicas == []
    with pytest.raises(StateError, match="is stopped"):
        deployment.wait_ready(5)
    deployment.delete()
    assert not Deployment.exists("files", client=teamspace)


def test_unknown_jobs_and_deployments_are_not_found(teamspace: Client) -> None:
    for kind in (Job, Deployment):
        with pytest.raises(NotFound, match="nope"):
            kind.get("nope", client=teamspace)
