"""dpo, grpo and distill on two real gloo ranks learn what one rank learns."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.fabric.strategies.ranks import Reports, run_checks
from tests.llm.recipes.align_ranks import RUNS, Run, prepare

from blixt.llm.errors import RecipeError
from blixt.llm.recipes.align import shares


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("align")
    prepare(found)
    return found


@pytest.fixture(scope="module")
def two(folder: Path) -> Reports:
    """All runs in one launch, because starting ranks takes longer than the runs."""
    return run_checks(2, [Run(name, folder, 2) for name in RUNS], folder)


@cache
def alone(name: str, folder: Path) -> dict[str, Any]:
    return Run(name, folder, 1)()


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_learn_what_one_does(name: str, folder: Path, two: Reports) -> None:
    one, answers = alone(name, folder), two[f"{name}_2"]
    for answer in answers:
        assert answer["metrics"] == pytest.approx(one["metrics"], rel=1e-3, abs=1e-4)
    for key, tensor in one["weights"].items():
        assert (answers[0]["weights"][key] - tensor).abs().max() < 3e-3, key


def test_a_batch_that_does_not_divide_is_told() -> None:
    assert shares(8, 2, 2) == (4, 2)
    assert shares(8, 0, 2) == (4, 4)
    for batch, micro, ranks in ((3, 0, 2), (8, 3, 1), (0, 0, 1)):
        with pytest.raises(RecipeError, match=f"batch_size={batch} does not divide"):
            shares(batch, micro, ranks)
