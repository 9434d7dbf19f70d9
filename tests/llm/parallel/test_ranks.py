"""Real gloo ranks: however the work is shared, losses and weights are those of one rank."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fabric.strategies.ranks import Reports, run_checks
from tests.llm.parallel import checks

from blixt.llm.parallel import ParallelConfig


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What two ranks answered."""
    return run_checks(2, [*checks.checks_of(checks.TWO), checks.check_resume], tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What four ranks answered."""
    return run_checks(4, checks.checks_of(checks.FOUR), tmp_path_factory.mktemp("four"))


@cache
def one_rank(kind: str, options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    torch.set_num_threads(1)
    return checks.train(kind, ParallelConfig(), **dict(options))


def assert_as_on_one_rank(reports: Reports, case: str) -> None:
    cases = {**checks.TWO, **checks.FOUR}
    kind, _, options = cases[case]
    one = one_rank(kind, tuple(options.items()))
    answers = reports.of(checks.Case(case, *cases[case]))
    for answer in answers:
        rel = 5e-3 if options.get("base") == "bfloat16" else 2e-5  # 16 bits round otherwise in other shapes
        assert answer["losses"] == pytest.approx(one["losses"], rel=rel)
        assert answer["held_out"] == pytest.approx(one["held_out"], rel=rel)
    weights = answers[0]["weights"]
    assert weights.keys() == one["weights"].keys()
    bound = 4e-3 if options.get("base") == "bfloat16" else 2e-4  # Adam's first steps magnify rounding
    frozen = ".base." if cases[case][1].tp > 1 and options.get("base") else None  # each rank has its part
    for name, tensor in one["weights"].items():
        if frozen and frozen in name:
            continue
        assert (weights[name].float() - tensor.float()).abs().max() < bound, name


@pytest.mark.parametrize("case", checks.TWO)
def test_two_ranks_train_as_one_does(two: Reports, case: str) -> None:
    assert_as_on_one_rank(two, case)


@pytest.mark.parametrize("case", checks.FOUR)
def test_four_ranks_train_as_one_does(four: Reports, case: str) -> None:
    assert_as_on_one_rank(four, case)


def test_sharded_ranks_go_on_from_a_checkpoint_to_the_bit(two: Reports, tmp_path: Path) -> None:
    for answer in two.of(checks.check_resume):
        assert answer["again"] == answer["straight"]
        assert answer["progress"] == {"step": 2, "best": 1.5}
