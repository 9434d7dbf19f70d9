"""What a fit writes through CSV and TensorBoard is what Lightning's fit writes."""

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import lightning.pytorch.callbacks as their_callbacks
import lightning.pytorch.loggers as their_loggers
import pytest

import blixt.fabric as our_loggers
import blixt.trainer as our_callbacks
from blixt.trainer import Module, Trainer

from .lightning_pair import make_loader, model_of, options

SIDES: dict[str, Any] = {
    "theirs": (pl.Trainer, pl.LightningModule, their_loggers, their_callbacks),
    "ours": (Trainer, Module, our_loggers, our_callbacks),
}


def logged(side: str, kind: str, folder: Path) -> Path:
    """The folder into which a fit of two epochs with a monitor of rates has logged."""
    trainer_class, base, loggers, callbacks = SIDES[side]
    logger = getattr(loggers, kind)(str(folder / side), name="run")
    watching = [callbacks.LearningRateMonitor("step")]
    trainer = trainer_class(**options(folder, logger=logger, callbacks=watching, log_every_n_steps=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model_of(base), make_loader(), make_loader(4))
    return Path(logger.log_dir)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)


def test_rows_of_a_fit_in_csv_are_lightnings(tmp_path: Path) -> None:
    theirs, ours = (
        [
            line.split(",")
            for line in (logged(side, "CSVLogger", tmp_path) / "metrics.csv").read_text().split()
        ]
        for side in SIDES
    )
    assert ours[0] == theirs[0] == ["epoch", "loss", "lr-SGD", "step", "val"]
    assert [[bool(cell) for cell in row] for row in ours] == [[bool(cell) for cell in row] for row in theirs]
    # Means of an epoch are of float64 here, and of float32 there.
    numbers = [[float(cell) for row in rows[1:] for cell in row if cell] for rows in (ours, theirs)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


def test_scalars_of_a_fit_in_tensorboard_are_lightnings(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: list[dict[str, Any]] = []
    for side in SIDES:
        events = EventAccumulator(str(logged(side, "TensorBoardLogger", tmp_path)))
        events.Reload()
        names = events.Tags()["scalars"]
        found.append({name: [(each.step, each.value) for each in events.Scalars(name)] for name in names})
    assert found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        for theirs, ours in zip(values, found[1][name], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
    assert {"loss", "val", "epoch", "lr-SGD"} <= found[1].keys()
