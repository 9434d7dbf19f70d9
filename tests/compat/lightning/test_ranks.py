"""Two ranks that the trainer starts itself: samples, metrics, weights and files are Lightning's."""

import json
import os
import subprocess
import sys
from pathlib import Path

from blixt.compat.lightning import folder

SCRIPT = Path(__file__).parent / "ranks" / "ddp.py"


def run(place: Path, path: str) -> tuple[list[object], list[str]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=place,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    facts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[{")]
    assert len(facts) == 1, done.stderr
    return facts[0], sorted(str(file.relative_to(place)) for file in place.rglob("*.ckpt"))


def test_two_ranks_do_what_they_did_under_lightning(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "ours").mkdir()
    assert run(tmp_path / "ours", str(folder())) == run(tmp_path / "real", "")
