"""What the pages on data, preferences and migration show is true: their commands run."""

from pathlib import Path

import pytest
from tests.data.pages import run_page

DOCS = Path(__file__).parents[3] / "docs" / "llm"


@pytest.mark.parametrize("page", ["data", "preference", "from-litgpt", "from-transformers"])
def test_a_page_runs_and_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    done = run_page(DOCS / f"{page}.md", tmp_path, {}, {"OMP_NUM_THREADS": "1"})
    wrong = [
        f"$ {one.words}\n{one.printed}\n--- but the page says:\n{one.expected}"
        for one in done
        if not one.holds
    ]
    assert done
    assert not wrong, "\n".join(wrong)
