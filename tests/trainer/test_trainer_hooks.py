"""Hooks run in the documented order, callbacks before the module."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blixt.trainer import Callback, DataModule, Module

from .samples import make_loader

CALLBACK_HOOKS = [
    name
    for name in vars(Callback)
    if name.startswith("on_") or name in ("setup", "teardown", "state_dict", "load_state_dict")
]
MODULE_HOOKS = [
    *(name for name in dir(Module) if name.startswith("on_")),
    *("setup", "teardown", "prepare_data", "configure_model", "configure_callbacks", "configure_optimizers"),
    *("train_dataloader", "val_dataloader", "training_step", "validation_step", "optimizer_step"),
    *("optimizer_zero_grad", "backward", "configure_gradient_clipping", "lr_scheduler_step"),
    *("transfer_batch_to_device", "state_dict", "load_state_dict"),
]


class Net(Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        step = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return [optimizer], [{"scheduler": step, "interval": "step"}]

    def train_dataloader(self) -> Any:
        return make_loader(8)

    def val_dataloader(self) -> Any:
        return make_loader(4)


def recording(base: type, names: list[str], prefix: str, calls: list[str]) -> type:
    """A subclass of `base` that notes each call of the named methods and passes it on."""

    def make(name: str) -> Any:
        @functools.wraps(getattr(base, name))
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(f"{prefix}.{name}")
            return getattr(super(recorder, self), name)(*args, **kwargs)

        return method

    recorder = type(f"Recording{base.__name__}", (base,), {})
    for name in names:
        setattr(recorder, name, make(name))
    return recorder


def recorded(trainer: Any, **options: Any) -> tuple[list[str], Any]:
    calls: list[str] = []
    module = recording(Net, MODULE_HOOKS, "M", calls)()
    callback = recording(Callback, CALLBACK_HOOKS, "C", calls)()
    return calls, (trainer(max_epochs=1, callbacks=callback, **options), module)


BEFORE_BATCH = ["M.on_before_batch_transfer", "M.transfer_batch_to_device", "M.on_after_batch_transfer"]
VALIDATION = [
    *("M.on_validation_model_eval", "C.on_validation_start", "M.on_validation_start"),
    *("C.on_validation_epoch_start", "M.on_validation_epoch_start"),
    *BEFORE_BATCH,
    *("C.on_validation_batch_start", "M.on_validation_batch_start", "M.validation_step"),
    *("C.on_validation_batch_end", "M.on_validation_batch_end"),
    *("C.on_validation_epoch_end", "M.on_validation_epoch_end"),
    *("C.on_validation_end", "M.on_validation_end", "M.on_validation_model_train"),
]
BATCH = [
    *BEFORE_BATCH,
    *("C.on_train_batch_start", "M.on_train_batch_start", "M.optimizer_step", "M.training_step"),
    *("C.on_before_zero_grad", "M.on_before_zero_grad", "M.optimizer_zero_grad"),
    *("C.on_before_backward", "M.on_before_backward", "M.backward"),
    *("C.on_after_backward", "M.on_after_backward"),
    *("C.on_before_optimizer_step", "M.on_before_optimizer_step", "M.configure_gradient_clipping"),
    *("M.lr_scheduler_step", "C.on_train_batch_end", "M.on_train_batch_end"),
]


def test_a_fit_runs_every_hook_in_the_documented_order(trainer: Any) -> None:
    calls, (run, module) = recorded(trainer, num_sanity_val_steps=1)
    run.fit(module)
    assert calls == [
        *("M.configure_callbacks", "M.prepare_data", "C.setup", "M.setup", "M.configure_model"),
        *("M.configure_optimizers", "C.on_fit_start", "M.on_fit_start"),
        *("C.on_sanity_check_start", "M.val_dataloader", *VALIDATION, "C.on_sanity_check_end"),
        *("M.train_dataloader", "C.on_train_start", "M.on_train_start"),
        *("C.on_train_epoch_start", "M.on_train_epoch_start"),
        *(*BATCH, "C.on_checkpoint_due"),
        *(*BATCH, "M.on_validation_model_zero_grad", *VALIDATION, "C.on_checkpoint_due"),
        *("C.on_train_epoch_end", "M.on_train_epoch_end", "C.on_checkpoint_due"),
        *("C.on_train_end", "M.on_train_end", "C.on_fit_end", "M.on_fit_end", "C.teardown", "M.teardown"),
    ]


def test_without_own_optimizer_hooks_the_order_of_the_others_is_the_same(trainer: Any) -> None:
    direct = {"optimizer_step", "optimizer_zero_grad", "backward", "configure_gradient_clipping"}
    calls: list[str] = []
    module = recording(Net, [name for name in MODULE_HOOKS if name not in direct], "M", calls)()
    trainer(max_epochs=1).fit(module)
    batch = [c for c in BATCH if c.startswith("M.") and c[2:] not in direct]
    begin = calls.index("M.on_train_epoch_start") + 1
    assert calls[begin : begin + len(batch)] == batch


def test_accumulation_leaves_the_optimizer_hooks_to_the_last_batch_of_a_window(trainer: Any) -> None:
    calls, (run, module) = recorded(trainer, accumulate_grad_batches=2, limit_val_batches=0)
    run.fit(module)
    assert calls.count("M.training_step") == calls.count("C.on_after_backward") == 2
    for once in ("M.optimizer_step", "C.on_before_zero_grad", "C.on_before_optimizer_step"):
        assert calls.count(once) == 1
    assert calls.count("M.lr_scheduler_step") == 1


def test_saving_and_resuming_call_the_checkpoint_hooks_in_order(trainer: Any, tmp_path: Path) -> None:
    calls, (run, module) = recorded(trainer)
    run.fit(module)
    calls.clear()
    run.save_checkpoint(tmp_path / "a.ckpt")
    assert calls == ["M.state_dict", "C.state_dict", "C.on_save_checkpoint", "M.on_save_checkpoint"]
    calls, (again, module) = recorded(trainer)
    again.fit(module, ckpt_path=tmp_path / "a.ckpt")
    assert calls[5:11] == [
        *("M.on_load_checkpoint", "M.load_state_dict", "C.on_load_checkpoint"),
        *("M.configure_optimizers", "C.on_fit_start", "M.on_fit_start"),
    ]


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_evaluating_alone_runs_only_its_own_hooks(stage: str, trainer: Any) -> None:
    calls, (run, module) = recorded(trainer)
    module.forward = module.layer
    module.predict_step = module.test_step = lambda batch: None
    getattr(run, stage)(module, make_loader(4))
    kind = {"validate": "validation"}.get(stage, stage)
    expected = [call.replace("validation", kind) for call in VALIDATION]
    if stage != "validate":
        expected.remove(f"M.{kind}_step")
    begin = calls.index(f"M.on_{kind}_model_eval")
    assert calls[begin : begin + len(expected)] == expected
    assert "M.configure_optimizers" not in calls
    assert calls[-2:] == ["C.teardown", "M.teardown"]


def test_an_error_reaches_on_exception_and_skips_the_teardown(trainer: Any) -> None:
    calls, (run, module) = recorded(trainer)
    module.validation_step = lambda batch, batch_idx: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run.fit(module)
    assert calls[-1] == "C.on_exception"
    assert "C.teardown" not in calls


def test_a_data_module_prepares_first_and_gives_the_loaders(trainer: Any) -> None:
    calls: list[str] = []

    class Data(DataModule):
        def prepare_data(self) -> None:
            calls.append("prepare_data")

        def setup(self, stage: str) -> None:
            calls.append(f"setup {stage}")

        def train_dataloader(self) -> Any:
            calls.append("train")
            return make_loader(8)

        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            calls.append("transfer")
            return batch

        def teardown(self, stage: str) -> None:
            calls.append(f"teardown {stage}")

    trainer(max_epochs=1, limit_val_batches=0).fit(Net(), datamodule=Data())
    assert calls == ["prepare_data", "setup fit", "train", "transfer", "transfer", "teardown fit"]


def test_a_batch_hook_that_returns_minus_one_skips_the_rest_of_the_epoch(trainer: Any) -> None:
    class Skip(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 1 else None

    run = trainer(max_epochs=3, callbacks=Skip())
    run.fit(Net())
    assert (run.global_step, run.current_epoch) == (3, 3)


def test_callbacks_of_the_module_replace_those_of_the_trainer(trainer: Any) -> None:
    class Marker(Callback):
        pass

    own = Marker()
    module = Net()
    module.configure_callbacks = lambda: [own]
    run = trainer(max_epochs=1, callbacks=[Marker()])
    run.fit(module)
    assert [callback for callback in run.callbacks if isinstance(callback, Marker)] == [own]


class HalfFrozen(Net):
    """Notes the modes in which its two layers take part."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm1d(8).requires_grad_(False).eval()
        self.modes: set[tuple[str, bool, bool]] = set()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.modes.add(("training", self.layer.training, self.frozen.training))
        return super().training_step((self.frozen(batch[0]), batch[1]), batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.modes.add(("validation", self.layer.training, self.frozen.training))


def test_a_fit_leaves_a_frozen_part_in_evaluation_mode_and_names_it(trainer: Any) -> None:
    module = HalfFrozen()
    with pytest.warns(UserWarning, match="1 module.* in eval mode.*: frozen"):
        trainer(max_epochs=2).fit(module)
    assert module.modes == {("training", True, False), ("validation", False, False)}
    assert not module.frozen.num_batches_tracked


def test_a_module_with_its_own_switch_back_decides_about_the_modes_after_a_validation(trainer: Any) -> None:
    class Refreezes(HalfFrozen):
        def on_validation_model_train(self) -> None:
            super().on_validation_model_train()
            self.frozen.eval()

    module = Refreezes()
    module.frozen.train()
    trainer(max_epochs=2, num_sanity_val_steps=0, val_check_interval=1).fit(module)
    assert module.modes == {("training", True, True), ("training", True, False), ("validation", False, False)}
