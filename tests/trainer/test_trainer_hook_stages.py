"""Hooks of every stage, of a data module, of files and of errors run in Lightning's order."""

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from blixt import trainer as ours

from .test_trainer_hook_order import first_difference, recording

_STAGES = ("train", "validation", "test", "predict")
_FILES = ("state_dict", "load_state_dict", "on_save_checkpoint", "on_load_checkpoint")
_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
_AROUND = ("prepare_data", "setup", "teardown", "on_exception")
_OF_CALLBACK = [name for name in vars(pl.Callback) if name.startswith("on_")] + [
    *("setup", "teardown", "state_dict", "load_state_dict")
]
_OF_MODULE = [
    *(name for name in dir(pl.LightningModule) if name.startswith("on_") and name != "on_gpu"),
    *(*_AROUND[:3], *_FILES[:2], *_TRANSFER, "configure_callbacks", "configure_model"),
    *("configure_optimizers", "training_step", "validation_step", "test_step", "predict_step", "zero_grad"),
]
_OF_DATA = [*_AROUND, *_FILES[:2], *_TRANSFER, *_LOADERS]


def module_of(base: type, fails_in: str | None) -> type:
    class Net(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def _step(self, name: str, batch: Any) -> Any:
            if name == fails_in:
                raise ArithmeticError("on purpose")
            if fails_in == f"ctrl-c in {name}":
                raise KeyboardInterrupt
            return self.layer(batch).mean()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self._step("fit", batch)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self._step("validate", batch)

        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self._step("test", batch)

        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self._step("predict", batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def prepare_data(self) -> None:
            pass

    return Net


def data_of(base: type) -> type:
    class Data(base):  # type: ignore[misc]
        def train_dataloader(self) -> Any:
            return DataLoader(torch.ones(2, 2))  # type: ignore[arg-type]

        def val_dataloader(self) -> Any:
            return [DataLoader(torch.ones(2, 2)), DataLoader(torch.ones(1, 2))]  # type: ignore[arg-type]

        test_dataloader = predict_dataloader = val_dataloader

    return Data


def calls_of(library: Any, verb: str, path: Path, options: dict[str, Any]) -> list[str]:
    """Every hook of module, data module and callback that one call runs, in order."""
    fails_in, resumes, with_data = (options.get(name) for name in ("fails_in", "resumes", "data"))
    calls: list[str] = []
    bases = (
        (ours.Module, ours.DataModule) if library is ours else (pl.LightningModule, pl.LightningDataModule)
    )
    module = recording(module_of(bases[0], fails_in), _OF_MODULE, "M", calls)()
    data = recording(data_of(bases[1]), _OF_DATA, "D", calls)() if with_data else None
    callback = recording(library.Callback, _OF_CALLBACK, "C", calls)()

    def run(epochs: int, ckpt_path: Path | None) -> None:
        trainer = library.Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            max_epochs=epochs,
            callbacks=callback,
            num_sanity_val_steps=0 if resumes else 1,  # Lightning checks some resumed runs, we none
        )
        loaders = {"train_dataloaders" if verb == "fit" else "dataloaders": DataLoader(torch.ones(2, 2))}  # type: ignore[arg-type]
        given = {"datamodule": data} if with_data else loaders
        getattr(trainer, verb)(module, ckpt_path=ckpt_path, **given)
        if resumes and ckpt_path is None:
            calls.append("-- save")
            trainer.save_checkpoint(path)

    try:
        run(1, None)
        if resumes:
            calls.append("-- resume")
            run(2, path)
    except (ArithmeticError, SystemExit) as error:
        calls.append(f"-- {type(error).__name__}")
    return calls


CASES: list[tuple[str, dict[str, Any]]] = [
    *((verb, {"data": data}) for verb in ("fit", "validate", "test", "predict") for data in (True, False)),
    *((verb, {"data": True, "fails_in": verb}) for verb in ("fit", "validate", "test", "predict")),
    ("fit", {"data": True, "fails_in": "validate"}),
    ("fit", {"data": True, "fails_in": "ctrl-c in fit"}),
    *(("fit", {"data": data, "resumes": True}) for data in (True, False)),
    *((verb, {"data": True, "resumes": True}) for verb in ("validate", "test", "predict")),
]


@pytest.mark.parametrize(("verb", "options"), CASES, ids=lambda value: str(value).replace("'", ""))
def test_a_call_runs_its_hooks_in_the_same_order(
    verb: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = calls_of(pl, verb, tmp_path / "theirs.ckpt", options)
        mine = calls_of(ours, verb, tmp_path / "ours.ckpt", options)
    if "fails_in" in options:  # ours puts the module back into training, too
        theirs, mine = ([call for call in calls if "model_train" not in call] for calls in (theirs, mine))
    assert not first_difference(mine, theirs)
