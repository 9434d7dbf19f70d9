"""Lightning goes on from our checkpoints, and we from Lightning's, and both end where one alone would."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from blixt.trainer import Callback, DataModule, Module, Trainer

from .lightning_pair import BATCHES, EPOCHS, make_loader, make_stateful, model_of, options, weights

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*srun:UserWarning", "ignore:You defined a:UserWarning", "ignore:.*set_vital"
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield


class OurSaves(Callback):
    """Saves whenever the loop says that it is time, at the end of epochs apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_checkpoint_due(self, trainer: Trainer, module: Any, at_epoch_end: bool) -> None:
        kind = "end" if at_epoch_end else "step"
        trainer.save_checkpoint(self.folder / f"{kind}{trainer.counters.batches}.ckpt")


class TheirSaves(pl.Callback):
    """Saves in every hook in which users save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _save(self, trainer: Any, kind: str) -> None:
        trainer.save_checkpoint(self.folder / f"{kind}{trainer.fit_loop.epoch_loop.total_batch_idx + 1}.ckpt")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._save(trainer, "step")

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        self._save(trainer, "val")

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        self._save(trainer, "end")


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 4},
    "validation within epochs": {"val_check_interval": 4},
    "a schedule of steps": {"schedule": "step"},
    "a plateau": {"schedule": "plateau"},
    "two optimizers by hand": {"schedule": "two by hand"},
}


def ours(folder: Path, ckpt: Path | None = None, schedule: str = "epoch", **more: Any) -> Any:
    module, trainer = model_of(Module, schedule), Trainer(**options(folder, **more))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The checkpoint holds no random numbers")
        trainer.fit(module, make_stateful(), make_loader(rows=4), ckpt_path=ckpt)
    return trainer, module


def theirs(folder: Path, ckpt: Path | None = None, schedule: str = "epoch", **more: Any) -> Any:
    module, trainer = model_of(pl.LightningModule, schedule), pl.Trainer(**options(folder, **more))
    trainer.fit(module, make_stateful(), make_loader(rows=4), ckpt_path=ckpt)
    return trainer, module


def files_in(folder: Path, every: int) -> list[Path]:
    """Some of the checkpoints, in the order in which they were saved; those at ends of epochs all."""
    found = sorted(folder.glob("*.ckpt"), key=lambda file: file.stat().st_mtime_ns)
    assert len(found) >= 6
    return [file for place, file in enumerate(found) if place % every == 0 or at_end(file)]


def at_end(file: Path) -> bool:
    """Whether a file was saved when all batches of an epoch were done."""
    return int(file.stem.lstrip("stepvalnd")) % BATCHES == 0


def steps_of(settings: dict[str, Any]) -> int:
    by_hand = 2 if settings.get("schedule") == "two by hand" else 1
    return -(-BATCHES // settings.get("accumulate_grad_batches", 1)) * EPOCHS * by_hand


@pytest.mark.parametrize("case", CASES)
def test_lightning_goes_on_from_any_of_our_checkpoints(case: str, tmp_path: Path) -> None:
    settings = CASES[case]
    _, whole = ours(tmp_path, **settings, callbacks=[OurSaves(tmp_path)])
    for file in files_in(tmp_path, 4):
        if case == "a plateau" and file.name.startswith("step") and at_end(file):
            continue  # Lightning forgets the metric that the scheduler is about to see
        trainer, module = theirs(tmp_path, file, **settings)
        assert torch.equal(weights(module), weights(whole)), file.name
        assert (trainer.current_epoch, trainer.global_step) == (EPOCHS, steps_of(settings)), file.name


@pytest.mark.parametrize("case", CASES)
def test_we_go_on_from_any_of_lightnings_checkpoints(case: str, tmp_path: Path) -> None:
    settings = CASES[case]
    _, whole = theirs(tmp_path, **settings, callbacks=[TheirSaves(tmp_path)])
    for file in files_in(tmp_path, 5):
        if settings.get("accumulate_grad_batches") and not _stepped(file):
            continue  # the gradients of an open window are in no checkpoint
        if case == "a plateau" and at_end(file):
            continue  # the metric that the scheduler is about to see is not in the file
        trainer, module = ours(tmp_path, file, **settings)
        assert torch.equal(weights(module), weights(whole)), file.name
        assert trainer.global_step == steps_of(settings), file.name


@pytest.mark.parametrize("case", CASES)
def test_we_go_on_from_any_of_our_own_checkpoints(case: str, tmp_path: Path) -> None:
    settings = CASES[case]
    _, whole = ours(tmp_path, **settings, callbacks=[OurSaves(tmp_path)])
    for file in files_in(tmp_path, 4):
        trainer, module = ours(tmp_path, file, **settings)
        assert torch.equal(weights(module), weights(whole)), file.name
        assert trainer.global_step == steps_of(settings), file.name


def _stepped(file: Path) -> bool:
    within = torch.load(file)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"]
    return within % 4 == 0 or within == BATCHES


def paths_of(value: Any, path: str = "") -> set[str]:
    """Where there is a value: keys and places in lists, joined."""
    if isinstance(value, dict):
        pairs: Any = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        return {path}
    return {path}.union(*(paths_of(item, f"{path}/{name}") for name, item in pairs))


class Kept:
    """What a data module with values and a state of its own adds."""

    def __init__(self, rows: int = 12) -> None:
        super().__init__()
        self.save_hyperparameters()  # type: ignore[attr-defined]

    def train_dataloader(self) -> Any:
        return make_stateful()

    def val_dataloader(self) -> Any:
        return make_loader(rows=4)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": 3}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "weights only"])
@pytest.mark.parametrize("schedule", ["epoch", "two by hand"])
def test_a_file_has_every_key_that_lightnings_has_and_one_of_ours(
    schedule: str, whole: bool, tmp_path: Path
) -> None:
    found: list[set[str]] = []
    for base, data, trainer_class in (
        (pl.LightningModule, pl.LightningDataModule, pl.Trainer),
        (Module, DataModule, Trainer),
    ):
        trainer = trainer_class(**options(tmp_path))
        trainer.fit(model_of(base, schedule), datamodule=type("Rows", (Kept, data), {})())
        trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=not whole)
        content = torch.load(tmp_path / "a.ckpt", weights_only=True)
        found.append(paths_of({name: value for name, value in content.items() if name != "blixt"}))
    theirs, ours = found
    assert "/loops/fit_loop/epoch_loop.batch_progress/total/ready" in theirs
    assert ours == theirs
