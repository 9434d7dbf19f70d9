"""The command line against a real cloud: what people see, and what programs read."""

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from blixt.client import Client, Job, Studio
from client.server import BLIXT, Server, blixt


@pytest.fixture
def run(server: Server, teamspace: Client) -> Any:
    """Run a command line in a teamspace of the test's own, and expect an exit code."""
    env = server.env | {"BLIXT_TEAMSPACE": teamspace.teamspace}

    def call(*words: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        done = blixt(*words, env=env, **options)
        assert done.returncode == code, done.stderr + done.stdout
        return done

    return call


LISTS = [
    *("studio list", "job list", "deployment list", "experiment list", "model list", "secret list"),
    *("budget show", "bill", "machines", "members list", "token list", "status", "whoami", "console"),
]


@pytest.mark.parametrize("words", LISTS)
def test_json_is_all_that_goes_to_stdout(run: Any, words: str) -> None:
    done = run(*words.split(), "--json")
    json.loads(done.stdout)
    assert done.stderr == ""


def test_a_studio_from_creation_to_deletion(run: Any, tmp_path: Path) -> None:
    assert json.loads(run("studio", "create", "lab", "--json").stdout)["status"]["state"] == "running"
    done = run("studio", "run", "lab", "--", "echo out; echo err >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    done = run("studio", "run", "lab", "--json", "--", "python", "-c", "print(6 * 7)")
    assert json.loads(done.stdout) == {"stdout": "42\n", "stderr": "", "exit_code": 0}
    (tmp_path / "notes.txt").write_text("mine")
    run("studio", "upload", "lab", "notes.txt", "deep/", cwd=tmp_path)
    run("studio", "download", "lab", "deep/notes.txt", "back.txt", cwd=tmp_path)
    assert (tmp_path / "back.txt").read_text() == "mine"
    assert "?ticket=" in run("studio", "open", "lab", "--port", "8000").stdout
    typed = run("studio", "terminal", "lab", stdin="echo in-a-$((40 + 2)); exit 5\n", code=5)
    assert "in-a-42" in typed.stdout
    run("studio", "stop", "lab")
    assert "stopped" in run("studio", "list").stdout
    assert "lab is gone" in run("studio", "delete", "lab", "--yes").stderr


def test_a_run_shows_its_log_and_ends_as_the_job_ends(run: Any, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print('hello from a file')")
    done = run("run", "--name", "greet", "--", "python", "hello.py", cwd=tmp_path)
    assert done.stdout == "hello from a file\n"
    assert "Job greet succeeded" in done.stderr
    assert run("job", "logs", "greet").stdout == "hello from a file\n"
    assert json.loads(run("job", "show", "greet", "--json").stdout)["status"]["exit_code"] == 0
    done = run("run", "--no-source", "--name", "bad", "exit 4", code=1)
    assert "error: Job bad failed" in done.stderr
    assert run("job", "wait", "bad", code=1).stdout == ""
    assert [job["name"] for job in json.loads(run("job", "list", "--json").stdout)] == ["bad", "greet"]


def test_options_of_the_command_belong_to_the_command(run: Any) -> None:
    assert run("run", "--no-source", "python", "-c", "print('-c is mine')").stdout == "-c is mine\n"


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(server: Server, teamspace: Client) -> None:
    env = os.environ | server.env | {"BLIXT_TEAMSPACE": teamspace.teamspace}
    command = [*BLIXT, "run", "--no-source", "--name", "long", "echo started; sleep 600"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert "The job goes on." in said
    assert "Traceback" not in said
    job = Job.get("long", client=teamspace)
    assert job.state == "running"
    assert job.stop().state == "stopped"


def read_until(screen: int, marker: bytes, timeout_s: float = 60) -> bytes:
    shown, deadline = b"", time.monotonic() + timeout_s
    while marker not in shown:
        ready, _, _ = select.select([screen], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{marker!r} did not come; the terminal shows {shown!r}"
        shown += os.read(screen, 4096)
    return shown


def test_a_terminal_on_a_terminal_is_raw_and_is_restored(server: Server, teamspace: Client) -> None:
    studio = Studio.create("lab", client=teamspace)
    env = os.environ | server.env | {"BLIXT_TEAMSPACE": teamspace.teamspace}
    screen, window = pty.openpty()
    before = termios.tcgetattr(window)
    command = [*BLIXT, "studio", "terminal", "lab"]
    process = subprocess.Popen(command, env=env, stdin=window, stdout=window, stderr=window)
    try:
        read_until(screen, b"$ ")
        os.write(screen, b"echo here; cat\n")
        read_until(screen, b"here\r\n")
        os.write(screen, b"ping\n")
        read_until(screen, b"ping\r\nping\r\n")  # cat answers, so it runs and Ctrl-C will find it
        os.write(screen, b"\x03")  # Ctrl-C goes to cat over there, not to the command line here
        read_until(screen, b"$ ")
        os.write(screen, b"echo still-$((1 + 1)); exit 6\n")
        read_until(screen, b"still-2")
        assert process.wait(60) == 6
        assert termios.tcgetattr(window) == before
    finally:
        process.kill()
        process.wait()
        os.close(screen)
        os.close(window)
    studio.delete()


def test_a_model_goes_up_and_comes_down(run: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "w.bin").write_bytes(b"w" * 1000)
    made = run("model", "upload", "gpt", "out", "--metric", "loss=1.5", "--json", cwd=tmp_path)
    assert json.loads(made.stdout)["metrics"] == {"loss": 1.5}
    run("model", "download", "gpt", cwd=tmp_path)
    assert (tmp_path / "gpt-v1" / "w.bin").read_bytes() == b"w" * 1000
    assert "loss=1.5" in run("model", "show", "gpt").stdout


def test_metrics_can_be_read(run: Any, teamspace: Client) -> None:
    from blixt.client import Experiment

    experiment = Experiment.create("sweep", client=teamspace)
    with experiment.start_run("first", params={"lr": 0.1}) as active:
        for step in range(3):
            active.log({"loss": float("nan") if step else 2.5}, step=step)
    assert "2.5" in run("experiment", "show", "sweep").stdout
    told = json.loads(run("experiment", "show", "sweep", "first", "--json").stdout)
    assert told["metrics"]["loss"]["value"] == [2.5, "nan", "nan"]
    assert "first" in run("experiment", "runs", "sweep").stdout


def test_secrets_budgets_members_and_tokens(run: Any, server: Server, teamspace: Client) -> None:
    run("secret", "set", "key", stdin="hush\n")
    assert "hush" not in run("secret", "list", "--json").stdout
    run("budget", "set", "2.5")
    assert "2.5000 cr" in run("budget", "show").stdout
    assert json.loads(run("bill", "--json").stdout)["budget_uc"] == 2_500_000
    user = "u-" + teamspace.teamspace
    invited = json.loads(run("members", "invite", user, "--role", "viewer", "--json").stdout)
    theirs = {
        "BLIXT_URL": server.url,
        "BLIXT_TOKEN": invited["token"],
        "BLIXT_TEAMSPACE": teamspace.teamspace,
    }
    done = blixt("budget", "set", "99", env=theirs)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    run("members", "remove", user)
    made = json.loads(run("token", "create", "--label", "ci", "--json").stdout)
    run("token", "revoke", made["id"])
    assert blixt("whoami", env=server.env | {"BLIXT_TOKEN": made["token"]}).returncode == 1


def test_login_remembers_the_server_for_later_commands(server: Server, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = blixt("login", server.url, "--token", server.token, env=home)
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(blixt("whoami", "--json", env=home).stdout)["user"] == "admin"
    assert blixt("logout", env=home).returncode == 0
    assert blixt("whoami", env=home).returncode == 1


def test_a_login_with_a_wrong_token_is_not_remembered(server: Server, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = blixt("login", server.url, env=home, stdin="wrong\n")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert not list(tmp_path.rglob("credentials.json"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("studio start nope", "'nope'"),
        ("job show nope", "'nope'"),
        ("job logs nope -f", "'nope'"),
        ("deployment show nope", "'nope'"),
        ("experiment runs nope", "'nope'"),
        ("model download nope", "'nope'"),
        ("secret delete nope", "'nope'"),
        ("studio create x --machine cpu-999", "cpu-999"),
        ("studio create Bad_Name", "Bad_Name"),
        ("deploy chat --model nope", "nope"),
        ("run --source /nowhere -- true", "/nowhere"),
        ("run --no-source --name UPPER -- true", "UPPER"),
        ("members add nobody", "nobody"),
        ("members add admin --role king", "role"),
    ],
)
def test_bad_input_is_one_sentence_that_names_it(run: Any, words: str, sentence: str) -> None:
    done = run(*words.split(), code=1)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]
    assert len(lines) <= 2
    assert done.stdout == ""


def test_a_reader_that_has_seen_enough_is_no_error(server: Server) -> None:
    env = os.environ | server.env
    done = subprocess.run(
        ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "-", *BLIXT, "machines", "--json"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
