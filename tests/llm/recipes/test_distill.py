import inspect
import json.decoder
import json.encoder
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.llm.recipes.small import run_and_kill, small_model, source_lines, write_rows

from blixt.llm.errors import RecipeError
from blixt.llm.recipes.config_files import hub
from blixt.llm.recipes.distill import DistillConfig, distill
from blixt.llm.shards import prepare
from blixt.llm.weights import load_checkpoint

QUICK: dict[str, Any] = {
    "sizes": {"d": 32, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 64},
    "preset": "tiny",
    "block_size": 96,
    "steps": 30,
    "batch_size": 4,
    "val_fraction": 0.2,
    "learn": "all",
    "optim.learning_rate": 1e-2,
    "parallel.devices": 1,
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned the lines of `json` well."""
    return small_model(tmp_path_factory.mktemp("teacher"), steps=150)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the lines that the teacher has learned: it knows what else might follow."""
    rows = [{"text": line} for line in source_lines(json.decoder, json.encoder)[::4]]
    return write_rows(tmp_path_factory.mktemp("data") / "lines.jsonl", rows)


def test_a_student_with_a_teacher_ends_below_one_that_learns_alone(
    teacher: Path, lines: Path, tmp_path: Path
) -> None:
    """Both see the same few lines equally often, and are measured on lines that neither has seen."""
    taught = distill(teacher, lines, out=str(tmp_path / "taught"), **QUICK)
    alone = distill(teacher, lines, out=str(tmp_path / "alone"), **QUICK, **{"loss.hard": 1.0})
    assert taught["first_val_loss"] == alone["first_val_loss"]
    assert taught["val_loss"] < alone["val_loss"] - 0.02
    assert load_checkpoint(tmp_path / "taught").config.layers == 1


@pytest.mark.parametrize("kind", ["reverse", "jsd"])
def test_every_divergence_teaches(kind: str, teacher: Path, lines: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "loss.divergence": kind, "loss.top_k": 16, "loss.temperature": 1.5}
    found = distill(teacher, lines, out=str(tmp_path), **settings)
    assert found["val_loss"] < found["first_val_loss"] - 0.5


def test_a_student_from_a_checkpoint_learns_with_an_adapter(
    teacher: Path, lines: Path, tmp_path: Path
) -> None:
    student = small_model(tmp_path / "student", seed=1, layers=1, steps=50)
    settings = {name: value for name, value in QUICK.items() if name not in ("sizes", "preset")}
    settings |= {"model": str(student), "adapt": "lora", "optim.learning_rate": 5e-3}
    found = distill(teacher, lines, out=str(tmp_path / "out"), **settings)
    assert found["val_loss"] < found["first_val_loss"]
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


def test_token_shards_are_read_too(teacher: Path, tmp_path: Path) -> None:
    for i, line in enumerate(source_lines(textwrap)[:60]):
        (tmp_path / f"{i}.txt").write_text(line)
    prepare(
        [tmp_path], tokenizer=teacher / "tokenizer.json", out=tmp_path / "shards", pattern="*.txt", workers=0
    )
    found = distill(teacher, tmp_path / "shards", out=str(tmp_path / "out"), **{**QUICK, "steps": 4})
    assert found["steps"] == 4


def test_a_run_that_is_killed_goes_on_bit_for_bit(
    teacher: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**QUICK, "teacher": str(teacher), "data": str(lines), "checkpoint.every": 3, "steps": 8}
    settings |= {"micro_batch_size": 2}
    settings |= {"log.prompts": ["def "], "log.sample_tokens": 3}
    whole = distill(**settings, out=str(tmp_path / "whole"))
    said = capsys.readouterr().err
    assert all(f"step {step}/8  sample 'def ' ->" in said for step in (0, 8))
    resumed = {**settings, "out": str(tmp_path / "resumed")}
    run_and_kill("blixt.llm.recipes.distill:distill", resumed, step=5)
    assert distill(**resumed) == whole
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_student_with_other_tokens_is_refused(teacher: Path, lines: Path, tmp_path: Path) -> None:
    other = small_model(tmp_path / "other", vocab=300)
    with pytest.raises(RecipeError, match="have different vocabularies"):
        distill(teacher, lines, model=str(other), out=str(tmp_path / "out"), **{"parallel.devices": 1})


def test_impossible_settings_are_told() -> None:
    with pytest.raises(RecipeError, match="temperature is above 0"):
        distill("t", "d", **{"loss.temperature": 0})


def test_the_hub_has_recipes_of_it_that_can_be_read() -> None:
    from blixt.llm.recipes.config import read

    names = [name for name in hub() if name.startswith("distill/")]
    assert names
    for name in names:
        assert read(DistillConfig, ["--config", name, "--data", "x"]).recipe == "distill"


def test_the_recipe_is_short_enough_to_be_read() -> None:
    import blixt.llm.recipes.distill as recipe

    assert len(inspect.getsource(recipe).splitlines()) <= 250
