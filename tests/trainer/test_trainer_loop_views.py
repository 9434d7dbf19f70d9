"""`trainer.fit_loop` and what hangs on it tell the same numbers as Lightning's, in every hook."""

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from blixt import trainer as ours

HOOKS = [
    *("on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_backward"),
    *("on_train_batch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end"),
    *("on_train_epoch_end", "on_train_end", "on_fit_end"),
]


def numbers(trainer: Any) -> dict[str, Any]:
    """What programs read."""
    loop = trainer.fit_loop.epoch_loop
    total, current = loop.batch_progress.total, loop.batch_progress.current
    return {
        "batch_idx": (loop.batch_idx, trainer.fit_loop.batch_idx),
        "total_batch_idx": loop.total_batch_idx,
        "global_step": (loop.global_step, trainer.global_step),
        "total": (total.ready, total.completed),
        "current": (current.ready, current.completed),
        "last": (loop.batch_progress.is_last_batch, trainer.is_last_batch),
        "epoch": trainer.current_epoch,
    }


def told(library: Any, base: type, options: dict[str, Any]) -> list[Any]:
    """The numbers in each hook of a fit, and after it."""
    seen: list[Any] = []

    class Net(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch).mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def noting(hook: str) -> Any:
        def method(self: Any, trainer: Any, *args: Any) -> None:
            shown = numbers(trainer)
            if hook == "on_train_epoch_start" and shown["epoch"]:
                shown = {"epoch": shown["epoch"]}  # Lightning's still show the epoch before
            seen.append((hook, shown))

        return method

    callback = type("Notes", (library.Callback,), {hook: noting(hook) for hook in HOOKS})()
    trainer = library.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[callback],
        **options,
    )
    trainer.fit(Net(), DataLoader(torch.ones(3, 2)), DataLoader(torch.ones(1, 2)))  # type: ignore[arg-type]
    return [*seen, ("after", numbers(trainer))]


@pytest.mark.parametrize("options", [{}, {"max_steps": 4}, {"val_check_interval": 1}])
def test_loops_tell_lightnings_numbers(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = told(pl, pl.LightningModule, options)
        mine = told(ours, ours.Module, options)
    assert mine == theirs
