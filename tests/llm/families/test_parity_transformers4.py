"""Every family against transformers 4: logits, cached tokens, saving back, gradients."""

from pathlib import Path

import pytest
from tests.llm.families import parity
from tests.llm.families.cases import cases_of

pytestmark = pytest.mark.parametrize("case", cases_of(4))


def test_logits_are_those_of_transformers(case: str, lane4: Path) -> None:
    parity.assert_same_logits(lane4 / case)


def test_greedy_tokens_through_the_cache_are_those_of_transformers_without(case: str, lane4: Path) -> None:
    parity.assert_same_greedy_tokens(lane4 / case)


def test_transformers_loads_what_is_saved_back(case: str, lane4_back: Path) -> None:
    parity.assert_saved_back(lane4_back / case)


def test_gradients_of_one_step_are_those_of_transformers(case: str, lane4: Path, tmp_path: Path) -> None:
    parity.assert_same_gradients(lane4 / case, tmp_path / "gradients")
