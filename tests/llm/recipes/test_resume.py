"""Checkpoints of recipes: whole or not at all, of this run or refused, and what a signal leaves behind."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.llm.recipes.small import small_model, write_rows
from torch import nn

from blixt.fabric import CheckpointError, Fabric
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.recipes.config import read
from blixt.llm.recipes.distill import DistillConfig
from blixt.llm.recipes.dpo import DPOConfig
from blixt.llm.recipes.finetune import FinetuneConfig, finetune
from blixt.llm.recipes.grpo import GRPOConfig
from blixt.llm.recipes.identity import as_json, changeable, changes, check, identity
from blixt.llm.recipes.pretrain import PretrainConfig
from blixt.llm.recipes.report import Report
from blixt.llm.recipes.resume import Checkpoints, ResumeConfig, TrainState, load_best, save_best


class Net(nn.Module):
    """Two layers to save."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4)
        self.head = nn.Linear(4, 4)


class Run:
    """A model and its optimizer on one process, with checkpoints in a folder."""

    def __init__(self, folder: Path, model: nn.Module | None = None, **options: Any) -> None:
        self.fabric = Fabric(accelerator="cpu", devices=1)
        self.model = self.fabric.setup_module(model or Net())
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self.fabric.setup_optimizers(torch.optim.AdamW(trained, lr=0.1))
        self.state = TrainState(self.model, [self.optimizer])
        own, may = options.pop("identity", {"size": 4}), options.pop("may_change", None)
        self.checkpoints = Checkpoints(self.fabric, folder, ResumeConfig(**options), own, may_change=may)

    def step(self) -> None:
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()


def test_weights_optimizer_numbers_and_random_state_come_back(tmp_path: Path) -> None:
    first = Run(tmp_path)
    assert first.checkpoints.restore(first.state) is None
    first.step()
    first.checkpoints.save(1, first.state, {"best": 0.5})
    first.step()
    second = Run(tmp_path)
    assert second.checkpoints.restore(second.state) == {"step": 1, "best": 0.5}
    second.step()
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_only_the_newest_are_kept_and_the_rest_of_a_torn_one_is_removed(tmp_path: Path) -> None:
    run = Run(tmp_path, keep=2)
    run.checkpoints.restore(run.state)
    (tmp_path / ".step-00000001.ckpt.123.partial").write_text("torn")
    for step in (1, 2, 10):
        run.checkpoints.save(step, run.state)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run.json",
        "step-00000002.ckpt",
        "step-00000010.ckpt",
    ]
    newest = run.checkpoints.newest()
    assert newest is not None
    assert newest.name == "step-00000010.ckpt"


def test_a_death_in_the_middle_of_saving_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    run.checkpoints.restore(run.state)
    run.checkpoints.save(1, run.state)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            run.checkpoints.save(2, run.state)
    again = Run(tmp_path)
    assert again.checkpoints.restore(again.state) == {"step": 1}


def test_frozen_weights_are_not_written(tmp_path: Path) -> None:
    model = add_lora(Net(), LoRAConfig(r=2, targets="up"))
    run = Run(tmp_path, model)
    run.checkpoints.restore(run.state)
    path = run.checkpoints.save(1, run.state)
    assert set(torch.load(path)["model"]) == {"up.lora_a", "up.lora_b"}
    save_best(run.fabric, tmp_path / "best.ckpt", run.state)
    other = add_lora(Net(), LoRAConfig(r=2, targets="up"))
    load_best(tmp_path / "best.ckpt", other)
    assert torch.equal(other.get_parameter("up.lora_a"), model.get_parameter("up.lora_a"))
    with pytest.raises(CheckpointError, match=r"holds up\.lora_a, which the model does not have"):
        load_best(tmp_path / "best.ckpt", Net())


def test_another_run_and_a_damaged_checkpoint_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.checkpoints.restore(run.state)
    path = run.checkpoints.save(1, run.state)
    other = Run(tmp_path, identity={"size": 5})
    with pytest.raises(RecipeError, match="was begun with size=4, not 5"):
        other.checkpoints.restore(other.state)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="damaged"):
        run.checkpoints.restore(run.state)
    (tmp_path / "run.json").unlink()
    with pytest.raises(RecipeError, match=r"no readable run\.json"):
        run.checkpoints.restore(run.state)


SECTIONS: dict[str, Any] = {"optim.learning_rate": 0.5, "parallel.devices": 1, "log.every": 9, "out": "y"}
RECIPES: dict[type[Any], dict[str, Any]] = {
    PretrainConfig: {"documents": "mask", "seed": 1, "batch_size": 2},
    FinetuneConfig: {"learn": "all", "pack": False, "lora.r": 3, "quantize": "int8", "val_fraction": 0.4},
    DPOConfig: {"loss": "kto", "wanted_weight": 3, "unwanted_weight": 0.5, "gamma": 2, "lora.r": 3},
    GRPOConfig: {"loss.beta": 0.5, "group": 3, "drop_cut": True, "max_prompt": 9, "lora.alpha": 3},
    DistillConfig: {"loss.temperature": 3, "sizes.d": 8, "learn": "all", "preset": "tiny"},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_that_make_a_run_cannot_change_and_the_others_are_taken(recipe: type[Any]) -> None:
    given = {name: "x" for name in ("model", "teacher", "data") if name in recipe.__dataclass_fields__}
    given |= {"rewards": [{"kind": "number"}]} if recipe is GRPOConfig else {}
    given |= {"model": {}} if recipe is PretrainConfig else {}
    begun = read(recipe, (), given)
    saved, may = as_json(identity(begun)), as_json(changeable(begun))
    for name, value in RECIPES[recipe].items():
        now = read(recipe, (), {**given, name: value})
        with pytest.raises(
            RecipeError, match=rf"was begun with {name}=.*, not {value!r}(\.0)?: give the same"
        ):
            check(identity(now), saved, Path("runs"))
        assert changes(changeable(now), may) == ""
    other = read(recipe, (), {**given, **SECTIONS, "data": "moved"})
    check(identity(other), saved, Path("runs"))
    told = changes(changeable(other), may)
    assert "data='moved', begun with 'x'" in told
    assert f"optim.learning_rate=0.5, begun with {begun.optim.learning_rate!r}" in told
    assert "log" not in told


def test_a_restart_says_which_settings_it_takes_anew(tmp_path: Path) -> None:
    run = Run(tmp_path, may_change={"optim.learning_rate": 0.1, "data": "a"})
    run.checkpoints.restore(run.state)
    assert run.checkpoints.going_on == ""
    run.checkpoints.save(1, run.state)
    again = Run(tmp_path, may_change={"optim.learning_rate": 0.2, "data": "a"})
    again.checkpoints.restore(again.state)
    wanted = "going on after step 1 with optim.learning_rate=0.2, begun with 0.1"
    assert again.checkpoints.going_on == wanted


def test_a_run_begun_anew_forgets_the_old_checkpoints(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.checkpoints.restore(run.state)
    run.checkpoints.save(5, run.state)
    anew = Run(tmp_path, resume=False, identity={"size": 9})
    assert anew.checkpoints.restore(anew.state) is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_whose_time_is_over_saves_ends_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = small_model(tmp_path / "base")
    data = write_rows(
        tmp_path / "data.jsonl", [{"prompt": f"{i} is", "completion": f" {i}"} for i in range(40)]
    )
    settings: dict[str, Any] = {"steps": 100_000, "batch_size": 2, "block_size": 32, "merge": False}
    settings |= {"checkpoint.every": 0, "checkpoint.stop_after_s": 0.001}
    ended = [finetune(base, data, tmp_path / "out", **settings)["steps"] for _ in range(2)]
    assert 0 < ended[0] < ended[1] < 100_000
    assert f"stopped after step {ended[0]} (checkpoint.stop_after_s=0.001)" in capsys.readouterr().err
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()


def test_sigterm_saves_after_the_step_and_ends_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = small_model(tmp_path / "base")
    data = write_rows(
        tmp_path / "data.jsonl", [{"prompt": f"{i} is", "completion": f" {i}"} for i in range(40)]
    )
    settings: dict[str, Any] = {"steps": 4, "batch_size": 2, "block_size": 32, "checkpoint.every": 0}
    report = Report.step

    def told_to_stop(self: Report, step: int, tokens: Any, **metrics: Any) -> None:
        report(self, step, tokens, **metrics)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Report, "step", told_to_stop)
        with pytest.raises(SystemExit) as left:
            finetune(base, data, tmp_path / "out", **settings)
    assert left.value.code == 143
    assert (tmp_path / "out" / "checkpoints" / "step-00000002.ckpt").exists()
    assert finetune(base, data, tmp_path / "out", **settings)["steps"] == 4
