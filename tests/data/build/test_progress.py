"""Progress: a callback, a bar with rate and time left on a terminal, lines in a log."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blixt.data import optimize
from blixt.data.build.progress import Lines, Meter, reporting

from .functions import number

SCRIPT = """
import sys
from blixt.data import optimize

def sample(i):
    return {"x": i}

if __name__ == "__main__":
    optimize(sample, range(50), sys.argv[1], num_workers=0, unit_size=5)
"""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_every_ten_seconds_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    lines = Lines("writing out", clock)
    for second in range(36):
        clock.now = 100.0 + second
        lines(1000 + 50 * second, 5000)
    assert capsys.readouterr().err.splitlines() == [
        "writing out: 1,500 of 5,000 inputs, 50/s, 1:10 left",
        "writing out: 2,000 of 5,000 inputs, 50/s, 1:00 left",
        "writing out: 2,500 of 5,000 inputs, 50/s, 0:50 left",
    ]


def test_without_a_total_the_time_left_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines("writing out", clock)
    lines(0, None)
    clock.now += 10
    lines(5, None)
    assert capsys.readouterr().err == "writing out: 5 inputs, 0.5/s, time left unknown\n"


def test_what_an_earlier_run_had_done_does_not_count_in_the_rate() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.update(10_000)
    clock.now += 2
    meter.update(10_100)
    assert meter.rate_text() == "50/s"


def test_nothing_is_said_when_asked_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    optimize(number, range(5), tmp_path / "a", num_workers=0, verbose=False)
    optimize(number, range(5), tmp_path / "b", num_workers=0, progress=False)
    with reporting(False, "title") as report:
        report(1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_with_count_rate_and_time_left(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, script, str(tmp_path / "out")]
    done = subprocess.run(command, stderr=theirs, env=environment, timeout=240, check=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        shown += part
    os.close(ours)
    assert done.returncode == 0
    assert b"writing out" in shown
    assert b"50/50" in shown
    assert re.search(rb"\d/s", shown)
    assert re.search(rb"\d:\d\d:\d\d", shown), "no time left was shown"
