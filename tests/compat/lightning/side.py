"""One side of the comparison: run scripts in this process, and write down what they said and left behind.

`python side.py OUT.json SCRIPT ...` runs each script in an empty folder of its own. Which Lightning they
import is decided by PYTHONPATH.
"""

import contextlib
import csv
import io
import json
import logging
import os
import runpy
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml


def facts(text: str) -> list[Any]:
    """The lines that are JSON lists or objects, in order."""
    found: list[Any] = []
    for line in text.splitlines():
        if line.startswith(("{", "[")):
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def shape_of(value: Any) -> Any:
    """What a checkpoint is made of: names, and plain values at the ends."""
    if isinstance(value, dict):
        return {str(key): shape_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shape_of(item) for item in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return value if isinstance(value, int | float | str | None) else type(value).__name__


def left_behind(folder: Path) -> dict[str, Any]:
    """The files of a folder: tables with their rows, checkpoints with their content, else the size class."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = "link"
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                found[name] = sorted_columns(list(csv.DictReader(file)))
        elif path.suffix == ".ckpt" and path.is_file():
            found[name] = shape_of(torch.load(path, weights_only=False))
        elif path.name == "hparams.yaml":
            found[name] = yaml.safe_load(path.read_text())
        elif path.is_file() and not path.name.startswith("events.out"):
            found[name] = "file"
    return found


def sorted_columns(rows: list[dict[str, str]]) -> list[dict[str, float]]:
    """Rows without empty cells, in an order of columns that does not depend on the writer."""
    return [{key: float(row[key]) for key in sorted(row) if row[key] not in ("", None)} for row in rows]


def run(script: Path) -> dict[str, Any]:
    """Run one script in a fresh folder; its error is part of the answer."""
    here, said, error = os.getcwd(), io.StringIO(), None
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        sys.argv = [str(script)]
        torch.manual_seed(0)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
                runpy.run_path(str(script), run_name="__main__")
        except (Exception, SystemExit) as problem:
            error = f"{type(problem).__name__}: {problem}"
        finally:
            os.chdir(here)
        answer = {"facts": facts(said.getvalue()), "files": left_behind(Path(name)), "error": error}
        return json.loads(json.dumps(answer).replace(json.dumps(name)[1:-1], "<folder>"))


def main() -> None:
    """Run every script that the command line names."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    out, *scripts = sys.argv[1:]
    results = {Path(script).stem: run(Path(script).resolve()) for script in scripts}
    Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
