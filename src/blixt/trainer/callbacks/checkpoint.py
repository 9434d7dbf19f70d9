"""Keep the best, the last, and every so many checkpoints."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class ModelCheckpoint(Callback):
    """Saves after validation, so that a monitored metric is never older than the weights beside it.

    Args:
        dirpath: Folder; default `<log_dir>/checkpoints`.
        filename: Pattern such as "{epoch}-{step}-{val_loss:.2f}"; default "{epoch}-{step}".
        monitor: Metric that says which is best; None keeps the newest.
        verbose: Say what is saved.
        save_last: Also keep `last.ckpt`.
        save_top_k: How many to keep: -1 all, 0 none.
        save_weights_only: Leave out what resuming needs.
        mode: Whether a small or a large value of `monitor` is good.
        auto_insert_metric_name: Write "epoch=1" instead of "1" into file names.
        every_n_train_steps: Save at every so many optimizer steps.
        every_n_epochs: Save at every so many epochs; the default is 1 without `every_n_train_steps`.
        save_on_train_epoch_end: At the end of the epoch rather than after each validation; default: yes,
            unless validation runs within epochs or not in all of them.
    """

    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | None = None,
        save_top_k: int = 1,
        save_weights_only: bool = False,
        mode: Literal["min", "max"] = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
    ) -> None:
        _check(monitor, save_top_k, mode, every_n_train_steps, every_n_epochs)
        self.dirpath: str | None = str(dirpath) if dirpath is not None else None
        self.filename = filename or "{epoch}-{step}"
        self.monitor = monitor
        self.verbose = verbose
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_weights_only = save_weights_only
        self.mode: Literal["min", "max"] = mode
        self.auto_insert_metric_name = auto_insert_metric_name
        self.every_n_train_steps = every_n_train_steps or 0
        self.every_n_epochs = (0 if every_n_train_steps else 1) if every_n_epochs is None else every_n_epochs
        self.save_on_train_epoch_end = save_on_train_epoch_end
        self.best_model_path = ""
        self.best_model_score: torch.Tensor | None = None
        self.best_k_models: dict[str, float] = {}
        self.last_model_path = ""
        self._saved_step = -1
        self._seen_validations = 0

    @property
    def state_key(self) -> str:
        """Distinguishes several of these in one run."""
        when = (self.every_n_train_steps, self.every_n_epochs)
        return (
            f"ModelCheckpoint{{'monitor': {self.monitor!r}, 'mode': {self.mode!r}, "
            f"'every_n_train_steps': {when[0]}, 'every_n_epochs': {when[1]}, 'train_time_interval': None}}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Which files are kept and how good they are."""
        return {
            "dirpath": self.dirpath,
            "best_model_path": self.best_model_path,
            "best_model_score": self.best_model_score,
            "best_k_models": dict(self.best_k_models),
            "last_model_path": self.last_model_path,
            "saved_step": self._saved_step,
            "seen_validations": self._seen_validations,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the files of the run before, unless they went to another folder."""
        self._saved_step = state_dict.get("saved_step", -1)
        self._seen_validations = state_dict.get("seen_validations", 0)
        if self.dirpath is not None and state_dict["dirpath"] != self.dirpath:
            return
        self.dirpath = state_dict["dirpath"]
        self.best_model_path = state_dict["best_model_path"]
        self.best_model_score = state_dict["best_model_score"]
        self.best_k_models = {k: float(v) for k, v in state_dict["best_k_models"].items()}
        self.last_model_path = state_dict["last_model_path"]

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Settle the folder, the same one on all ranks."""
        if self.dirpath is None and stage == "fit":
            self.dirpath = trainer.fabric.broadcast(str(trainer.checkpoint_dir))

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Decide when an epoch's checkpoint is saved."""
        if self.save_on_train_epoch_end is None:
            config = trainer.config
            within = config.val_check_interval != 1.0 or config.check_val_every_n_epoch != 1
            self.save_on_train_epoch_end = not (within and config.limit_val_batches)

    def on_checkpoint_due(self, trainer: "Trainer", module: "Module", at_epoch_end: bool) -> None:
        """Save if it is time."""
        every_steps, counters = self.every_n_train_steps, trainer.counters
        if every_steps and counters.global_step % every_steps == 0 and not at_epoch_end:
            self._save(trainer)
        elif self.every_n_epochs and (counters.epoch + 1) % self.every_n_epochs == 0:
            validated = counters.validations != self._seen_validations
            if at_epoch_end if self.save_on_train_epoch_end or not trainer.validates else validated:
                self._seen_validations = counters.validations
                self._save(trainer)

    def format_checkpoint_name(self, metrics: dict[str, torch.Tensor], epoch: int, step: int) -> str:
        """The file's name without its ending.

        Example:
            >>> ModelCheckpoint(filename="{epoch}-{loss:.2f}").format_checkpoint_name(
            ...     {"loss": torch.tensor(0.5)}, epoch=3, step=10
            ... )
            'epoch=3-loss=0.50'
        """
        values: dict[str, Any] = {name: float(value) for name, value in metrics.items()}
        values.update(epoch=epoch, step=step)

        def fill(match: re.Match[str]) -> str:
            name, form = match.group(1), match.group(2) or ""
            text = format(values.get(name, float("nan")), form)
            return f"{name}={text}" if self.auto_insert_metric_name else text

        return re.sub(r"{([^:}]+)(?::([^}]*))?}", fill, self.filename)

    def _save(self, trainer: "Trainer") -> None:
        if trainer.counters.global_step == self._saved_step:
            return
        self._saved_step = trainer.counters.global_step
        if self.save_top_k != 0:
            self._save_ranked(trainer)
        if self.save_last:
            self.last_model_path = str(self._path(self.CHECKPOINT_NAME_LAST))
            trainer.save_checkpoint(self.last_model_path, self.save_weights_only)

    def _save_ranked(self, trainer: "Trainer") -> None:
        metrics = trainer.callback_metrics
        score = float(trainer.counters.global_step) if self.monitor is None else self._score(metrics)
        dropped = self._to_drop(score)
        if dropped is False:
            return
        name = self.format_checkpoint_name(metrics, trainer.counters.epoch, trainer.counters.global_step)
        path = str(self._free(trainer, name))
        self.best_k_models[path] = score
        best = max if self._larger_is_better else min
        self.best_model_path = best(self.best_k_models, key=lambda kept: self.best_k_models[kept])
        if self.monitor is not None:
            self.best_model_score = torch.tensor(self.best_k_models[self.best_model_path])
        if isinstance(dropped, str):
            del self.best_k_models[dropped]
        trainer.save_checkpoint(path, self.save_weights_only)
        if isinstance(dropped, str) and trainer.is_global_zero:
            Path(dropped).unlink(missing_ok=True)
        if self.verbose:
            trainer.print(f"saved {path}" + (f" ({self.monitor} {score:g})" if self.monitor else ""))

    @property
    def _larger_is_better(self) -> bool:
        return self.monitor is None or self.mode == "max"

    def _to_drop(self, score: float) -> str | bool | None:
        """The file that has to go for a new one of this score; None if there is room, False if it loses."""
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return None
        worst_of = min if self._larger_is_better else max
        worst = worst_of(self.best_k_models, key=lambda kept: self.best_k_models[kept])
        value = self.best_k_models[worst]
        better = score > value if self._larger_is_better else score < value
        return worst if better else False

    def _score(self, metrics: dict[str, torch.Tensor]) -> float:
        assert self.monitor is not None
        if self.monitor not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            reason = f"no such metric has been logged; known: {known}"
            raise ConfigError("ModelCheckpoint(monitor)", self.monitor, reason, "Log it, or correct the name")
        score = float(metrics[self.monitor])
        worst = float("-inf") if self.mode == "max" else float("inf")
        return worst if score != score else score

    def _path(self, name: str) -> Path:
        assert self.dirpath is not None
        return Path(self.dirpath) / f"{name}{self.FILE_EXTENSION}"

    def _free(self, trainer: "Trainer", name: str) -> Path:
        """`name`, or `name-v1` and so on where a file of another run has it."""
        path, version = self._path(name), 0
        while path.exists() and str(path) not in self.best_k_models:
            version += 1
            path = self._path(f"{name}-v{version}")
        return Path(trainer.fabric.broadcast(str(path)))


def _check(
    monitor: str | None,
    save_top_k: int,
    mode: str,
    every_n_train_steps: int | None,
    every_n_epochs: int | None,
) -> None:
    if mode not in ("min", "max"):
        raise ConfigError("ModelCheckpoint(mode)", mode, "it is unknown", "Use 'min' or 'max'")
    if save_top_k < -1:
        raise ConfigError("ModelCheckpoint(save_top_k)", save_top_k, "it counts files", "Use -1 for all")
    if monitor is None and save_top_k not in (-1, 0, 1):
        reason = "without a monitor nothing says which are the best"
        raise ConfigError(
            "ModelCheckpoint(save_top_k)", save_top_k, reason, "Name a monitor, or use -1, 0 or 1"
        )
    for name, value in (("every_n_train_steps", every_n_train_steps), ("every_n_epochs", every_n_epochs)):
        if value is not None and value < 0:
            raise ConfigError(f"ModelCheckpoint({name})", value, "it counts", "Use 1 or more")
    if every_n_train_steps and every_n_epochs:
        reason = "every_n_train_steps is given as well"
        raise ConfigError(
            "ModelCheckpoint(every_n_epochs)", every_n_epochs, reason, "Use two ModelCheckpoints"
        )
