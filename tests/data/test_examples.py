"""What the documentation shows is true: the examples run, and so do the docstrings."""

import argparse
import doctest
import importlib
import pkgutil
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
        timeout=240,
        check=True,
    )
    assert "every byte is as it was written: True" in done.stdout
    assert "the resumed run reads the same batch: True" in done.stdout


@pytest.mark.parametrize(
    ("name", "library", "sentences"),
    [
        (
            "photos",
            "skimage",
            ["100 pictures, every byte as it was written: True", "reads the same batch: True"],
        ),
        ("arrivals", "pyarrow", ["ids: int64[varying]", "the same rows: True"]),
    ],
)
def test_the_other_examples_run(name: str, library: str, sentences: list[str], tmp_path: Path) -> None:
    pytest.importorskip(library)
    words = [sys.executable, ROOT / "examples" / "data" / f"{name}.py", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert all(sentence in done.stdout for sentence in sentences), done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_a_benchmark_measures_fresh_processes_and_prints_a_table(tmp_path: Path) -> None:
    """The peers take part where they are installed; here it is blixt alone, on little data."""
    from benchmarks.data import _bench, _make

    _make.SOURCES["tokens"](tmp_path, 300_000)
    row = _bench.Row("token blocks", "tokens", [_bench.Competitor("blixt", "blixt")], target=6)
    build = _bench.measure(row.competitors[0], "build_tokens", tmp_path)
    assert build["samples"] == 300_000
    given = argparse.Namespace(runs=2, without=[], only=None)
    found = _bench.measure_row(row, tmp_path, given)
    assert found["competitors"]["blixt"]["samples"] == 300_000 // 2048 // 64 * 64
    assert found["competitors"]["blixt"]["cpu_s"] > 0
    assert "samples/CPU-s" in _bench.table([found])
