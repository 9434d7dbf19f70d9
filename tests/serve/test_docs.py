import ast
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


PAGES = sorted((ROOT / "docs" / "serve").glob("*.md"))


def test_the_pages_show_examples_that_exist():
    shown = [name for page in PAGES for name in re.findall(r'--8<-- "([^"]+)"', page.read_text())]
    assert "serve/echo.py" in shown
    assert [name for name in shown if not (ROOT / "examples" / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_is_python(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        if not block.startswith("--8<--"):
            compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_python_of_a_page_imports_exists(page):
    lines = re.findall(r"^ *from (blixt[\w.]*) import \(?([^)\n]+)", page.read_text(), re.MULTILINE)
    for module, names in lines:
        found = importlib.import_module(module)
        assert [name for name in re.findall(r"\w+", names) if not hasattr(found, name)] == []
