"""What the documentation shows is true: the examples run, and so do the docstrings."""

import doctest
import importlib
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import blixt.data

ROOT = Path(__file__).parents[2]
MODULES = [module.name for module in pkgutil.walk_packages(blixt.data.__path__, "blixt.data.")]


def test_the_token_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "data" / "token_shards.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "every byte is as it was written: True" in done.stdout
    assert "the resumed run reads the same batch: True" in done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_reader_of_the_benchmark_reads_the_same_tokens(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "data" / "tokens.py"))
    benchmark["make_data"](tmp_path, 300_000)
    names = [name for name in benchmark["READERS"] if name != "litdata"]
    runs = {name: [benchmark["measure"](name, tmp_path, 0)] for name in names}
    assert {run["tokens"] for [run] in runs.values()} == {300_000 // 2048 // 64 * 64 * 2048}
    rows = {"0 workers": {name: benchmark["summarise"](runs[name]) for name in names}}
    text = benchmark["report"]({"machine": benchmark["machine"](), "tokens": 300_000, "rows": rows})
    assert "memmap + DataLoader" in text
