"""What the pages on data show is true: their files are written, their commands run, their output compared."""

import ast
import re
from pathlib import Path

import pytest

from data.pages import BLOCK, material, run_page
from data.servers.seaweed import S3

DOCS = Path(__file__).parents[2] / "docs" / "data"
PAGES = (
    "index",
    "cli",
    "images",
    "text",
    "mixing",
    "resume",
    "fleet",
    "from-litdata",
    "from-mds",
    "from-webdataset",
)
NEEDS = {"images": ("torch", "skimage"), "from-litdata": ("torch",), "from-mds": ("pyarrow",)}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_prints_what_it_shows(page: str, tmp_path: Path, cache_dir: Path) -> None:
    for library in NEEDS.get(page, ()):
        pytest.importorskip(library)
    material(page, tmp_path)
    done = run_page(DOCS / f"{page}.md", tmp_path, {}, {"XDG_CACHE_HOME": str(cache_dir)})
    wrong = [
        f"$ {one.words}\n{one.printed}\n--- but the page says:\n{one.expected}"
        for one in done
        if not one.holds
    ]
    assert done
    assert not wrong, "\n".join(wrong)


def test_the_page_on_stores_runs_against_a_real_one(tmp_path: Path, cache_dir: Path, s3: S3) -> None:
    replace = {"s3://my-bucket": s3.location()}
    done = run_page(DOCS / "s3.md", tmp_path, replace, s3.environment)
    assert [one.printed for one in done if not one.holds] == []


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_python_on_every_page_is_python_and_names_what_exists(page: str) -> None:
    for kind, _, body in BLOCK.findall((DOCS / page).read_text()):
        if kind != "python":
            continue
        tree = ast.parse(body)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blixt"):
                module = __import__(str(node.module), fromlist=["*"])
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_reference_has_every_public_name() -> None:
    from blixt import data
    from blixt.data import errors, foreign
    from blixt.data.store import errors as store_errors

    lists = re.findall(r"members: \[([^\]]*)\]", (DOCS / "reference.md").read_text())
    named = {name for members in lists for name in members.split(", ")}
    elsewhere = {*vars(errors), *vars(store_errors), "Ragged"}  # which is Array by its older name
    assert set(data.__all__) - named == set(data.__all__) & elsewhere
    assert set(foreign.__all__) - named <= {"FORMATS", "ForeignDataset"}
