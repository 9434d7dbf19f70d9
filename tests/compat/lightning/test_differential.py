"""Unchanged Lightning scripts do the same under Lightning and through the door: numbers, files, refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blixt.compat.lightning import folder
from compat.lightning.compare import differences

HERE = Path(__file__).parent
SCRIPTS = sorted(path.stem for path in (HERE / "scripts").glob("*.py"))

MEANT: dict[str, dict[str, str]] = {
    "checkpoints_many": {
        "/files/steps/": "a checkpoint that falls on a validation is written after it, with its numbers",
    },
    "ema_swa": {
        "/facts[0][2]": "the average takes in what the last epoch ends with, as the method's paper says",
    },
    "hook_order": {
        "/files/a.ckpt/loops/": "an epoch that is done leaves no batches of its own in the file",
    },
    "hparams": {
        "/files/c.ckpt/": "an epoch that max_steps cut is not counted as done; a resume goes on in it",
    },
    "tuner": {
        "/facts[0]": "the first losses are not halved by the smoothing, so the search ends one rate later",
        "/facts[1]": "the first losses are not halved by the smoothing",
    },
    "wrong_steps": {
        "/facts[19]": "the trainer's arguments are by keyword",
        "/facts[22]": "accumulating over no batches is refused",
    },
}
"""Where ours differs on purpose: a part of the place, and why."""


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all scripts did, one process a side: importing Lightning costs more than most of them."""
    place = tmp_path_factory.mktemp("sides")
    scripts = [str(HERE / "scripts" / f"{name}.py") for name in SCRIPTS]
    running: list[tuple[Path, subprocess.Popen[str]]] = []
    for name, path in (("real", ""), ("ours", str(folder()))):
        out = place / f"{name}.json"
        command = [sys.executable, str(HERE / "side.py"), str(out), *scripts]
        environment = os.environ | {"PYTHONPATH": path}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        running.append((out, process))
    answers: list[dict[str, Any]] = []
    for out, process in running:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
        answers.append(json.loads(out.read_text()))
    return answers[0], answers[1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_does_the_same(script: str, sides: tuple[dict[str, Any], dict[str, Any]]) -> None:
    real, ours = sides
    assert real[script]["error"] is None, "the script itself is wrong"
    found = differences(real[script], ours[script])
    left = [line for line in found if not any(place in line for place in MEANT.get(script, ()))]
    assert left == []


def test_every_difference_that_is_meant_is_there(sides: tuple[dict[str, Any], dict[str, Any]]) -> None:
    real, ours = sides
    gone = [
        (script, place)
        for script, places in MEANT.items()
        for place in places
        if not any(place in line for line in differences(real[script], ours[script]))
    ]
    assert gone == []
