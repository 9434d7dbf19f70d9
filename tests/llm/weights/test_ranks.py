"""Real gloo ranks: each reads its own rows and columns of a checkpoint, and all save one."""

from pathlib import Path

import pytest
from tests.fabric.strategies.ranks import Reports, run_checks
from tests.llm.weights import rank_checks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    rank_checks.write_models(path)
    return path


@pytest.fixture(scope="module")
def reports(folder: Path) -> Reports:
    checks = [rank_checks.check_tensor_parallel, rank_checks.check_fsdp, rank_checks.check_families]
    return run_checks(2, checks, folder)


@pytest.mark.parametrize("name", rank_checks.MODELS)
def test_tensor_parallel_ranks_hold_half_and_answer_as_the_whole(reports: Reports, name: str) -> None:
    for answer in reports.of(rank_checks.check_tensor_parallel):
        assert answer[name]["same"]
        local, whole = answer[name]["local"], answer[name]["whole"]
        assert 2 * local[-2] == whole[-2]
        assert local[-1] == whole[-1]


@pytest.mark.parametrize("kind", rank_checks.KINDS)
def test_every_family_divided_at_loading_answers_as_the_whole(reports: Reports, kind: str) -> None:
    for answer in reports.of(rank_checks.check_families):
        assert answer[kind] < 1e-5


def test_fsdp_ranks_answer_as_the_whole(reports: Reports) -> None:
    assert reports.of(rank_checks.check_fsdp) == [True, True]


@pytest.mark.parametrize("name", rank_checks.MODELS)
def test_divided_models_are_saved_as_the_files_they_were_read_from(
    reports: Reports, folder: Path, name: str
) -> None:
    reports.of(rank_checks.check_tensor_parallel)
    before = (folder / name / "model.safetensors").read_bytes()
    assert (folder / "check_tensor_parallel" / name / "model.safetensors").read_bytes() == before
    if name == "dense":
        assert (folder / "check_fsdp" / name / "model.safetensors").read_bytes() == before
