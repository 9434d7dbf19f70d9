"""Jobs: a gang of processes that runs to its end, with a reason for every ending."""

import io
import os
import signal
import sqlite3
import tarfile

import pytest
from tests.cloud.runtime.cluster import Cluster, wait_until

FINAL = ("succeeded", "failed", "stopped")


def _final(cluster: Cluster, name: str) -> dict:
    return cluster.wait_state("jobs", name, *FINAL)["status"]


def test_a_job_runs_to_its_end_and_its_log_is_exact(cluster: Cluster) -> None:
    cluster.create("jobs", "simple", command="for i in 1 2 3; do echo line $i; done; printf 'é no newline'")
    status = _final(cluster, "simple")
    assert (status["state"], status["exit_code"], status["reason"]) == ("succeeded", 0, "")
    assert cluster.log_text("jobs/simple") == "line 1\nline 2\nline 3\né no newline"


def test_following_a_log_ends_with_the_jobs_state(cluster: Cluster) -> None:
    cluster.create("jobs", "followed", command="echo a; sleep 0.3; echo b >&2")
    events = cluster.logs("jobs/followed", follow=1)
    assert "".join(e["data"]["text"] for e in events if e["event"] == "log") == "a\nb\n"
    assert events[-1]["data"] == {"state": "succeeded"}


def test_a_log_goes_on_from_an_events_id(cluster: Cluster) -> None:
    cluster.create("jobs", "resumed", command="echo first; echo second")
    _final(cluster, "resumed")
    assert cluster.log_text("jobs/resumed", since=len("first\n")) == "second\n"


def test_a_failing_command_gives_its_code_and_a_reason(cluster: Cluster) -> None:
    cluster.create("jobs", "failing", command=["python", "-c", "raise SystemExit(7)"])
    status = _final(cluster, "failing")
    assert (status["state"], status["exit_code"]) == ("failed", 7)
    assert status["reason"] == "The command exited with code 7."


def test_a_command_that_does_not_exist_fails_with_code_127(cluster: Cluster) -> None:
    cluster.create("jobs", "missing", command=["no-such-program", "--x"])
    status = _final(cluster, "missing")
    assert (status["state"], status["exit_code"]) == ("failed", 127)
    assert "no-such-program: command not found" in cluster.log_text("jobs/missing")


def test_a_job_is_restarted_in_the_same_home(cluster: Cluster) -> None:
    command = "echo attempt $BLIXT_ATTEMPT; echo x >> tries; test $(wc -l < tries) -ge 3"
    cluster.create("jobs", "stubborn", command=command, max_restarts=3)
    status = _final(cluster, "stubborn")
    assert (status["state"], status["attempt"]) == ("succeeded", 3)
    assert cluster.log_text("jobs/stubborn") == "attempt 1\nattempt 2\nattempt 3\n"
    assert cluster.bill_lines("stubborn")[0]["segments"] == 3


def test_restarts_end_when_they_are_used_up(cluster: Cluster) -> None:
    cluster.create("jobs", "hopeless", command="exit 2", max_restarts=1)
    status = _final(cluster, "hopeless")
    assert (status["state"], status["attempt"], status["exit_code"]) == ("failed", 2, 2)


def test_stop_lets_the_command_end_well(cluster: Cluster) -> None:
    script = (
        "import signal, time\n"
        "signal.signal(15, lambda *_: (print('bye', flush=True), exit(0)))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)"
    )
    cluster.create("jobs", "polite", command=["python", "-c", script])
    wait_until(lambda: "up" in cluster.log_text("jobs/polite"), "it runs")
    cluster.post("jobs/polite/stop").raise_for_status()
    status = _final(cluster, "polite")
    assert (status["state"], status["reason"]) == ("stopped", "It was stopped by admin.")
    assert cluster.log_text("jobs/polite") == "up\nbye\n"


def test_a_job_over_its_timeout_fails(cluster: Cluster) -> None:
    cluster.create("jobs", "endless", command="sleep 600", timeout_s=1)
    status = _final(cluster, "endless")
    assert (status["state"], status["reason"]) == ("failed", "It ran longer than its timeout of 1 s.")


def test_two_machines_of_two_processes_find_each_other_as_under_torchrun(cluster: Cluster) -> None:
    names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE NODE_RANK GROUP_RANK MASTER_ADDR OMP_NUM_THREADS"
    command = f"for n in {names} MASTER_PORT; do printf '%s ' ${{!n}}; done"
    cluster.create("jobs", "gang", command=command, machines=2, processes=2)
    assert _final(cluster, "gang")["state"] == "succeeded"
    lines = [cluster.log_text("jobs/gang", rank=rank).split() for rank in range(4)]
    assert [line[:8] for line in lines] == [
        ["0", "0", "4", "2", "0", "0", "127.0.0.1", "1"],
        ["1", "1", "4", "2", "0", "0", "127.0.0.1", "1"],
        ["2", "0", "4", "2", "1", "1", "127.0.0.1", "1"],
        ["3", "1", "4", "2", "1", "1", "127.0.0.1", "1"],
    ]
    assert len({line[8] for line in lines}) == 1
    assert cluster.bill_lines("gang")[0]["segments"] == 2


def test_a_failing_rank_stops_the_others(cluster: Cluster) -> None:
    cluster.create("jobs", "uneven", command="test $RANK = 0 || exit 5; sleep 600", processes=2)
    status = _final(cluster, "uneven")
    assert (status["state"], status["reason"]) == ("failed", "Rank 1 exited with code 5.")


def test_a_source_archive_is_unpacked_into_home(cluster: Cluster) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        body = b"print('from source')"
        entry = tarfile.TarInfo("pkg/main.py")
        entry.size = len(body)
        archive.addfile(entry, io.BytesIO(body))
    blob = cluster.http.post("teamspaces/default/blobs", content=packed.getvalue()).json()["id"]
    cluster.create("jobs", "sourced", command="python pkg/main.py", source=blob)
    assert _final(cluster, "sourced")["state"] == "succeeded"
    assert cluster.log_text("jobs/sourced") == "from source\n"


def test_a_job_starts_from_a_copy_of_a_studios_files(cluster: Cluster) -> None:
    cluster.create("studios", "desk")
    cluster.exec("desk", "mkdir -p d && echo draft > d/paper && ln -s d/paper link")
    cluster.create("jobs", "copied", command="cat link; echo changed > d/paper", studio="desk")
    status = _final(cluster, "copied")
    assert status["state"] == "succeeded", status
    assert cluster.log_text("jobs/copied") == "draft\n"
    assert cluster.exec("desk", "cat d/paper").stdout == "draft\n"


def test_what_a_job_leaves_becomes_a_model_version(cluster: Cluster) -> None:
    command = "echo weights > $BLIXT_MODEL_OUT/w.bin; echo '{\"loss\": 1.5}' > $BLIXT_MODEL_OUT/metrics.json"
    cluster.create("jobs", "maker", command=command, model="thing")
    status = _final(cluster, "maker")
    assert (status["state"], status["model_version"]) == ("succeeded", 1), status
    version = cluster.http.get("teamspaces/default/models/thing/versions/latest").json()
    assert (version["state"], version["job"], version["metrics"]) == ("ready", "maker", {"loss": 1.5})
    kept = cluster.http.get("teamspaces/default/models/thing/versions/1/files/w.bin")
    assert kept.content == b"weights\n"


def test_a_job_that_leaves_no_model_fails(cluster: Cluster) -> None:
    cluster.create("jobs", "empty", command="true", model="nothing")
    status = _final(cluster, "empty")
    assert status["state"] == "failed"
    assert "left nothing in BLIXT_MODEL_OUT" in status["reason"]


@pytest.mark.usefixtures("sandbox")
def test_a_killed_agent_fails_the_job_with_a_reason(cluster: Cluster) -> None:
    cluster.create("jobs", "orphan", command="echo up; sleep 600")
    wait_until(lambda: "up" in cluster.log_text("jobs/orphan"), "it runs")
    (allocation,) = cluster.get("jobs", "orphan")["status"]["allocations"]
    os.kill(cluster.agent_pid(allocation), signal.SIGKILL)
    status = _final(cluster, "orphan")
    assert status["state"] == "failed"
    assert status["reason"].startswith("Machine 0: the machine ended unexpectedly")


@pytest.mark.usefixtures("sandbox")
def test_a_killed_agents_job_is_restarted_when_it_may(cluster: Cluster) -> None:
    cluster.create(
        "jobs", "phoenix", command="echo up; test -e again || { touch again; sleep 600; }", max_restarts=1
    )
    wait_until(lambda: "up" in cluster.log_text("jobs/phoenix"), "it runs")
    (allocation,) = cluster.get("jobs", "phoenix")["status"]["allocations"]
    os.kill(cluster.agent_pid(allocation), signal.SIGKILL)
    status = _final(cluster, "phoenix")
    assert (status["state"], status["attempt"]) == ("succeeded", 2)


def test_a_budget_too_small_refuses_the_job_at_the_door(cluster: Cluster) -> None:
    cluster.http.post("teamspaces", json={"name": "poor"}).raise_for_status()
    cluster.create("budgets", "all", teamspace="poor", limit_uc=1, period="total", applies_to="teamspace")
    body = {"name": "costly", "spec": {"command": "true"}}
    answer = cluster.http.post("teamspaces/poor/jobs", json=body)
    assert answer.status_code == 402
    assert "budget 'all'" in answer.json()["error"]["message"]
    assert cluster.http.get("teamspaces/poor/jobs/costly").status_code == 404
    assert cluster.http.get("teamspaces/poor/bill").json()["total_uc"] == 0


def test_a_job_whose_money_runs_out_is_stopped(cluster: Cluster) -> None:
    cluster.create("jobs", "broke", command="echo up; sleep 600")
    wait_until(lambda: "up" in cluster.log_text("jobs/broke"), "it runs")
    (allocation,) = cluster.get("jobs", "broke")["status"]["allocations"]
    # What the sweeper does when a hold can no longer be extended, which takes a minute of real time.
    with sqlite3.connect(cluster.data_dir / "blixt.db", timeout=60) as db:
        db.execute("UPDATE allocations SET reason = 'The budget is used up.' WHERE id = ?", (allocation,))
    cluster.http.patch("teamspaces/default/jobs/broke", json={"labels": {"wake": "up"}}).raise_for_status()
    status = _final(cluster, "broke")
    assert (status["state"], status["reason"]) == ("failed", "The budget is used up.")
    assert cluster.bill_lines("broke")[0]["open"] is False


def test_a_machine_larger_than_this_one_is_refused(cluster: Cluster) -> None:
    cluster.create("jobs", "huge", command="true", machine="gpu-1")
    status = _final(cluster, "huge")
    assert (status["state"], "No engine here can give a gpu-1" in status["reason"]) == ("failed", True)


def test_a_deleted_running_job_leaves_nothing(cluster: Cluster) -> None:
    created = cluster.create("jobs", "gone", command="echo up; sleep 600")
    wait_until(lambda: "up" in cluster.log_text("jobs/gone"), "it runs")
    cluster.http.delete("teamspaces/default/jobs/gone").raise_for_status()
    wait_until(lambda: cluster.http.get("teamspaces/default/jobs/gone").status_code == 404, "it is gone")
    assert not (cluster.data_dir / "logs" / created["uid"]).exists()
    assert not list((cluster.data_dir / "engine" / "local").glob(f"{created['uid'][:20]}*"))


def test_a_viewer_may_read_a_log_but_not_stop_the_job(cluster: Cluster) -> None:
    cluster.create("jobs", "watched", command="echo seen")
    _final(cluster, "watched")
    made = cluster.http.post("users", json={"name": "vic"}).json()
    cluster.http.put("teamspaces/default/members/vic", json={"role": "viewer"}).raise_for_status()
    vic = cluster.client(made["token"])
    assert "seen" in vic.get("teamspaces/default/jobs/watched/logs").text
    assert vic.post("teamspaces/default/jobs/watched/stop").status_code == 403
