import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


DOCUMENTED = [
    "api",
    "errors",
    "http.auth",
    "http.compress",
    "mcp",
    "server",
    "specs.base",
    "specs.openai",
    "specs.openai_embeddings",
    "specs.openai_types",
    "specs.stops",
]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_in_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(f"blixt.serve.{name}"))
    assert result.attempted
    assert result.failed == 0


def test_the_guide_shows_the_example_that_runs():
    guide = (ROOT / "docs" / "serve.md").read_text()
    shown = re.findall(r"```python\n# echo.py\n(.*?)```", guide, re.DOTALL)[0]
    example = (ROOT / "examples" / "serve" / "echo.py").read_text()
    lines = [line for line in shown.splitlines() if line.strip() and "Server(Greeter())" not in line]
    assert [line for line in lines if line not in example] == []
