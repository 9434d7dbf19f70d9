"""The tour itself, with fewer steps of training: from `blixt up` to the bill and a clean machine."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blixt.demo.leftovers import Traces

DEMO = [sys.executable, "-m", "blixt.demo", "--quick"]


@pytest.mark.timeout(600)
def test_the_tour_is_true_from_the_first_step_to_the_bill_and_leaves_nothing() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    for step in range(1, 8):
        assert re.search(rf"^{step}  ", told, re.MULTILINE), f"step {step} is missing"
    for truth in (
        "the file is there after stop and start",
        "a terminal answers over a WebSocket",
        "a notebook kernel computes 6 * 7 = 42",
        "one process: loss",
        "two ranks: loss",
        "it sleeps: no replica, no cost",
        "the first request woke it",
        "machine-seconds at their prices are exactly",
        "no process, mount or control group is left",
    ):
        assert truth in told, f"{truth!r} is missing:\n{told}"
    data_dir = Path(re.findall(r"BLIXT_DATA_DIR=(\S+)", told)[0])
    assert not data_dir.exists()
    assert Traces(data_dir).left() == []


@pytest.mark.timeout(300)
def test_ctrl_c_in_the_middle_leaves_nothing() -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        told = ""
        for line in process.stdout:
            told += line
            if "studio create lab" in line:
                os.killpg(process.pid, signal.SIGINT)
        code = process.wait(180)
    assert code == 130, told
    assert "no process, mount or control group is left" in told
    assert "Traceback" not in told
    data_dir = Path(re.findall(r"BLIXT_DATA_DIR=(\S+)", told)[0])
    assert not data_dir.exists()
    assert Traces(data_dir).left() == []
