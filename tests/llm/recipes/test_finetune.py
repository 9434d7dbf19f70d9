"""Finetuning on real lines of Python: what is trained, what comes out, and that nothing gets lost."""

import json
import json.decoder
import json.encoder
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.fabric.strategies.ranks import run_checks
from tests.llm.recipes.finetune_ranks import BreaksAfter, Broken, KilledRuns, StartedAgain
from tests.llm.recipes.small import run_and_kill, small_model, source_lines, write_rows
from torch.multiprocessing.spawn import ProcessExitedException

from blixt.llm import LLM, LLMError, LoRAConfig, finetune, merge_adapter
from blixt.llm.lora import load_peft
from blixt.llm.parallel import ParallelConfig
from blixt.llm.recipes.config import read
from blixt.llm.recipes.finetune import FinetuneConfig, run
from blixt.llm.weights import load_checkpoint

QUICK: dict[str, Any] = {
    "block_size": 64,
    "batch_size": 4,
    "steps": 8,
    "val_every": 4,
    "optim.learning_rate": 1e-2,
    "lora.r": 4,
    "checkpoint.every": 2,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return small_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beginnings of lines of code and how they go on."""
    found = source_lines(json.decoder, json.encoder)
    rows = [{"prompt": line[: len(line) // 2], "completion": line[len(line) // 2 :]} for line in found]
    return write_rows(tmp_path_factory.mktemp("data") / "lines.jsonl", rows)


def settings(base: Path, lines: Path, out: Path, **more: Any) -> FinetuneConfig:
    given = {"model": str(base), "data": str(lines), "out": str(out), **QUICK, **more}
    return read(FinetuneConfig, (), given)


def logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return load_checkpoint(folder)(torch.arange(40).view(2, 20))


@pytest.mark.parametrize("adapt", ["full", "lora", "dora", "qlora"])
def test_held_out_loss_falls_whatever_is_trained(base: Path, lines: Path, tmp_path: Path, adapt: str) -> None:
    before = (base / "model.safetensors").read_bytes()
    metrics = finetune(base, lines, tmp_path, adapt=adapt, **QUICK)
    least = 0.2 if adapt == "full" else 0.05  # a small adapter moves a model of random weights slowly
    assert metrics["val_loss"] < metrics["first_val_loss"] - least
    assert metrics["fill"] > 0.9
    assert (metrics["trained"] < metrics["parameters"] / 2) == (adapt != "full")
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert (base / "model.safetensors").read_bytes() == before
    assert LLM.load(tmp_path).generate("def ", max_tokens=2, temperature=0).text


def test_an_adapter_and_the_merged_model_are_written_and_agree(
    base: Path, lines: Path, tmp_path: Path
) -> None:
    finetune(base, lines, tmp_path, adapt="dora", **QUICK)
    beside = load_peft(load_checkpoint(base), tmp_path / "adapter")
    with torch.inference_mode():
        expected = beside(torch.arange(40).view(2, 20))
    assert torch.allclose(logits(tmp_path), expected, atol=1e-5)
    again = merge_adapter(base, tmp_path / "adapter", tmp_path / "again")
    assert torch.equal(logits(again), logits(tmp_path))
    with pytest.raises(LLMError, match="is the base model itself"):
        merge_adapter(base, tmp_path / "adapter", base)


def test_micro_batches_change_nothing_though_their_numbers_of_tokens_differ(
    base: Path, lines: Path, tmp_path: Path
) -> None:
    found = [
        finetune(base, lines, tmp_path / str(rows), adapt="full", micro_batch_size=rows, **QUICK)
        for rows in (0, 1)
    ]
    assert found[0]["val_loss"] == pytest.approx(found[1]["val_loss"], rel=1e-4)
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-4)


def test_padding_in_place_of_packing_sees_the_same_tokens(base: Path, lines: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(lines.read_text().splitlines(keepends=True)[:48]))
    options = {**QUICK, "steps": None, "epochs": 1, "merge": False, "val_fraction": 0.0}
    packed = finetune(base, few, tmp_path / "packed", **options)
    padded = finetune(base, few, tmp_path / "padded", pack=False, **options)
    assert packed["tokens"] == padded["tokens"]
    assert packed["steps"] <= padded["steps"] / 2
    assert packed["fill"] > 1.8 * padded["fill"]


@pytest.mark.parametrize("step", [1, 2, 5, 8])
def test_a_run_that_breaks_off_after_any_step_ends_as_one_that_did_not(
    base: Path, lines: Path, tmp_path: Path, step: int, whole: Path
) -> None:
    config = settings(base, lines, tmp_path, **{"lora.dropout": 0.1})
    with pytest.raises(Broken), BreaksAfter(step):
        run(config)
    run(config)
    assert_same_files(whole, tmp_path)


@pytest.fixture(scope="module")
def whole(base: Path, lines: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of a run that never stopped."""
    out = tmp_path_factory.mktemp("whole")
    run(settings(base, lines, out, **{"lora.dropout": 0.1}))
    return out


def assert_same_files(whole: Path, again: Path) -> None:
    first, second = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (whole, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((whole / "metrics.json").read_text()) == json.loads(
        (again / "metrics.json").read_text()
    )


def test_a_run_killed_with_sigkill_goes_on_to_the_same_bits(
    base: Path, lines: Path, tmp_path: Path, whole: Path
) -> None:
    given = {"model": str(base), "data": str(lines), "out": str(tmp_path), **QUICK, "lora.dropout": 0.1}
    run_and_kill("blixt.llm.recipes.finetune:finetune", given, 6)
    finetune(**given)
    assert_same_files(whole, tmp_path)


def test_a_run_goes_on_with_the_settings_it_began_with(base: Path, lines: Path, tmp_path: Path) -> None:
    config = settings(base, lines, tmp_path)
    run(config)
    with pytest.raises(LLMError, match="was begun with batch_size=4, not 2"):
        run(replace(config, batch_size=2))
    with pytest.raises(LLMError, match=r"was begun with lora\.r=4, not 2"):
        run(replace(config, lora=LoRAConfig(r=2)))
    fresh = replace(config, batch_size=2, checkpoint=replace(config.checkpoint, resume=False))
    assert run(fresh)["steps"] == 8


def test_two_killed_ranks_go_on_to_the_same_bits_and_one_rank_goes_on_with_their_data(
    base: Path, lines: Path, tmp_path: Path
) -> None:
    sharded = ParallelConfig(strategy="fsdp")
    one, two = (
        replace(settings(base, lines, tmp_path / name, adapt="full", merge=False), parallel=sharded)
        for name in ("one", "two")
    )
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        run_checks(2, [KilledRuns(one, two)], tmp_path)
    assert not (Path(two.out) / "metrics.json").exists()
    again = StartedAgain(two, tmp_path / "three" / "checkpoints")
    whole = json.loads((Path(one.out) / "metrics.json").read_text())
    for answer in run_checks(2, [again], tmp_path).of(again):
        assert answer == whole
    weights = [load_file(Path(config.out) / "model.safetensors") for config in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    alone = run(replace(two, out=str(tmp_path / "three"), parallel=ParallelConfig()))
    assert alone["tokens"] == whole["tokens"]
    assert alone["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-4)


def test_what_the_model_writes_is_shown_before_and_after(
    base: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(base, lines, tmp_path, **{**QUICK, "log.prompts": ["def "], "log.sample_tokens": 4})
    said = capsys.readouterr().err
    assert "step 0/8  sample 'def ' ->" in said
    assert "step 8/8  sample 'def ' ->" in said
    assert "tokens_per_s" in said


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"adapt": "lora", "quantize": "int8"}, "use adapt=qlora"),
        ({"batch_size": 3, "micro_batch_size": 2}, "batch_size=3 does not divide"),
        ({"lora.targets": "qq"}, "did you mean 'q'"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"parallel.strategy": "ddp", "parallel.tp": 2}, "use fsdp"),
        ({"log.loggers": "wandbb"}, "use one of csv, tensorboard"),
    ],
)
def test_impossible_settings_are_refused_in_a_sentence(
    base: Path, lines: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LLMError, match=sentence):
        run(settings(base, lines, tmp_path, **changes))
    shutil.rmtree(tmp_path)
