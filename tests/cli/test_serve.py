"""blixt serve: run, bench, docker, as a person types them."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from blixt.serve.client import Client
from blixt.serve.testing import wait_until
from client.server import blixt

APP = """
from blixt.serve import API


class Double(API):
    def predict(self, x: float) -> float:
        return 2 * x
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


@contextlib.contextmanager
def served(words: list[str], cwd: Path) -> Generator[str]:
    process = subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        Client(url).wait_ready(60)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_file_is_served_with_and_without_the_word_run(app: Path) -> None:
    for words in (["serve", "app.py"], ["serve", "run", "app.py"]):
        with served([sys.executable, "-m", "blixt", *words, "--port", "0"], app.parent) as url:
            assert httpx.post(f"{url}/predict", json=4).json() == 8


def test_bench_of_a_file_measures_rounds_and_draws_the_curve(app: Path) -> None:
    words = ["serve", "bench", "app.py", "-d", "4", "-c", "1,4", "-s", "0.5"]
    done = blixt(*words, cwd=app.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "CPU US/REQ" in lines[0]
    for line, name in zip(lines[1:3], ("1 clients", "4 clients"), strict=True):
        assert line.startswith(name)
        rate, p50, *_, failed, cpu = line.removeprefix(name).split()
        assert float(rate) > 1
        assert float(p50) > 0
        assert failed == "0"
        assert float(cpu) > 0
    assert "p99" in done.stdout
    assert re.search(r"ms \|.*o", done.stdout)


def test_bench_as_json_of_a_running_service(app: Path) -> None:
    with served([sys.executable, "-m", "blixt", "serve", "app.py", "--port", "0"], app.parent) as url:
        words = ["serve", "bench", url, "-d", '"no number"', "-c", "2", "-s", "0.3", "--rate", "50", "--json"]
        (line,) = json.loads(blixt(*words, cwd=app.parent).stdout)
    assert line["statuses"] == {"422": 15}
    assert (line["answered"], line["failed"], line["rate"]) == (0, 15, 50)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["bench", "nope.py"], "neither an address nor a file"),
        (["bench", "http://127.0.0.1:9", "-s", "0.1"], "cannot be reached"),
        (["bench", "http://127.0.0.1:9", "-c", "many"], "not a list of counts"),
        (["bench", "http://127.0.0.1:9", "-H", "colon"], "is not 'NAME: VALUE'"),
        (["docker", "nope.py"], "does not exist"),
    ],
)
def test_wrong_words_are_one_sentence(words: list[str], sentence: str, tmp_path: Path) -> None:
    done = blixt("serve", *words, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_docker_writes_a_file_whose_command_serves(app: Path) -> None:
    (app.parent / "requirements.txt").write_text("httpx\n")
    done = blixt("serve", "docker", "app.py", "--port", "8123", "--extra", "llm", cwd=app.parent)
    assert done.returncode == 0, done.stderr
    text = (app.parent / "Dockerfile").read_text()
    assert "blixt[llm,serve]==" in text
    assert "COPY requirements.txt" in text
    assert "USER blixt" in text
    assert "*.pyc" in (app.parent / ".dockerignore").read_text()
    command = json.loads(text.split("\nCMD ")[1])
    # The same words serve here, but for the address, which a test may not take for itself.
    command[command.index("--port") + 1] = "0"
    command[command.index("0.0.0.0")] = "127.0.0.1"
    with served([sys.executable, "-m", *command], app.parent) as url:
        probe = json.loads(re.search(r"HEALTHCHECK .* CMD (\[.*\])", text)[1])
        probe[2] = probe[2].replace("http://127.0.0.1:8123", url)
        assert subprocess.run([sys.executable, *probe[1:]]).returncode == 0, shlex.join(probe)


def test_docker_keeps_another_dockerfile_unless_forced(app: Path) -> None:
    other = app.parent / "Dockerfile"
    other.write_text("FROM scratch\n")
    assert "is another" in blixt("serve", "docker", "app.py", cwd=app.parent).stderr
    assert other.read_text() == "FROM scratch\n"
    assert blixt("serve", "docker", "app.py", "--gpu", "--force", cwd=app.parent).returncode == 0
    assert "nvidia/cuda" in other.read_text()


def test_bench_ends_the_server_that_it_started(app: Path) -> None:
    done = blixt("serve", "bench", "app.py", "-d", "4", "-c", "1", "-s", "0.1", cwd=app.parent)
    assert done.returncode == 0, done.stderr
    cwds = Path("/proc").glob
    wait_until(lambda: not any(_points_to(p, app.parent) for p in cwds("[0-9]*/cwd")), 60, "its end")


def _points_to(link: Path, folder: Path) -> bool:
    try:
        return os.readlink(link) == str(folder)
    except OSError:
        return False


def test_a_dry_run_answers_the_examples_and_ends(app: Path) -> None:
    app.write_text(APP + "    def examples(self):\n        return [4]\n")
    done = blixt("serve", "app.py", "--dry-run", cwd=app.parent)
    assert done.returncode == 0, done.stderr
    assert "Double at /predict on cpu" in done.stdout
    app.write_text(APP + "    def examples(self):\n        return ['no number']\n")
    assert blixt("serve", "app.py", "--dry-run", cwd=app.parent).returncode == 1


def test_a_changed_file_is_served_again_on_the_same_port(app: Path) -> None:
    words = [sys.executable, "-m", "blixt", "serve", "app.py", "--port", "0", "--reload"]
    with served(words, app.parent) as url:
        assert httpx.post(f"{url}/predict", json=4, timeout=60).json() == 8
        app.write_text(APP.replace("2 * x", "3 * x"))

        def tripled() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.post(f"{url}/predict", json=4, timeout=60).json() == 12
            return False

        wait_until(tripled, 60, "the changed code to be served")
