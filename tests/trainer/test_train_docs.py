"""What the pages on training show is true: the tutorial runs as shown, and code names what exists."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

from data.pages import BLOCK, run_page

DOCS = Path(__file__).parents[2] / "docs" / "train"


def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    done = run_page(DOCS / "tutorial-pytorch.md", tmp_path, {}, {})
    assert len(done) == 7
    wrong = [
        f"$ {one.words}\n{one.printed}\n--- the page says:\n{one.expected}" for one in done if not one.holds
    ]
    assert not wrong, "\n".join(wrong)
    assert done[-1].printed == "bitwise the same: True\n"


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_python_on_every_page_is_python_and_names_what_exists(page: str) -> None:
    for kind, _, body in BLOCK.findall((DOCS / page).read_text()):
        if kind != "python":
            continue
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blixt":
                module = import_module(str(node.module))
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, ast.unparse(node)
