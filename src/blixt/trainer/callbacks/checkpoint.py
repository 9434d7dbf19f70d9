"""Keep the best, the last, and every so many checkpoints."""

import os
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import torch

from blixt.trainer.callbacks import checkpoint_files as files
from blixt.trainer.callbacks.checkpoint_names import CheckpointNames
from blixt.trainer.callbacks.checkpoint_rules import (
    Triggers,
    check_arguments,
    folder_of,
    make_triggers,
    refuse_remote_link,
)
from blixt.trainer.callbacks.ranking import Ranking
from blixt.trainer.callbacks.timed import TimedDecision

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class ModelCheckpoint(CheckpointNames):
    """Saves after validation, so that a monitored metric is never older than the weights beside it.

    When steps or time say that a checkpoint is due, but the monitored metric comes from validation, the
    ranked checkpoint waits for the next validation; `last` does not wait.

    Args:
        dirpath: Folder or URL; default `<log_dir>/checkpoints`.
        filename: Pattern such as "{epoch}-{step}-{val_loss:.2f}"; default "{epoch}-{step}".
        monitor: Metric that says which is best; None keeps the newest.
        verbose: Say what is saved.
        save_last: Also keep `last.ckpt`; "link" makes it a link to the newest ranked one where possible.
        save_top_k: How many to keep: -1 all, 0 none.
        save_on_exception: Save when the run ends with an error.
        save_weights_only: Leave out what resuming needs.
        mode: Whether a small or a large value of `monitor` is good.
        auto_insert_metric_name: Write "epoch=1" instead of "1" into file names.
        every_n_train_steps: Save at every so many optimizer steps.
        train_time_interval: Save whenever so much time has passed: a timedelta, or "10min".
        every_n_epochs: Save at every so many epochs; the default is 1 without the two above.
        save_on_train_epoch_end: At the end of the epoch rather than after each validation; default: yes,
            unless validation runs within epochs or not in all of them.
        enable_version_counter: Append "-v1" to a name that another run has; else overwrite its file.

    Attributes:
        best_model_path: The best checkpoint, or without `monitor` the newest; "" before the first.
        best_model_score: Its metric.
        current_score: The metric of the checkpoint saved last.
        best_k_models: Metric by path of the ones that are kept.
        kth_best_model_path: The one that goes next.
        kth_value: Its metric.
        last_model_path: Where `last` is.

    Raises:
        ConfigError: For values and pairs of arguments that cannot work.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: Literal["min", "max"] = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | str | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
    ) -> None:
        self._when: Triggers = make_triggers(every_n_train_steps, train_time_interval, every_n_epochs)
        check_arguments(monitor, save_top_k, mode, save_last, dirpath)
        self.dirpath: str | None = folder_of(dirpath)
        self.filename = filename
        self.monitor = monitor
        self.verbose = verbose
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.mode: Literal["min", "max"] = mode
        self.auto_insert_metric_name = auto_insert_metric_name
        self.save_on_train_epoch_end = save_on_train_epoch_end
        self.enable_version_counter = enable_version_counter
        self._ranking = Ranking(mode, save_top_k)
        self.kth_value = self._ranking.hopeless
        self.kth_best_model_path = ""
        self.best_model_path = ""
        self.best_model_score: torch.Tensor | None = None
        self.current_score: torch.Tensor | None = None
        self.last_model_path = ""
        self._newest = ""
        self._saved_step = 0
        self._validated = False
        self._validated_step = -1
        self._before_validation: Any = None
        self._of_validation = False
        self._waiting = False
        self._clock: TimedDecision | None = None
        self._last_time = 0.0

    # --- what it remembers ------------------------------------------------------------------------

    @property
    def every_n_train_steps(self) -> int:
        """Optimizer steps between checkpoints; 0 when steps do not matter."""
        return self._when.steps

    @property
    def every_n_epochs(self) -> int:
        """Epochs between checkpoints; 0 when epochs do not matter."""
        return self._when.epochs

    @property
    def train_time_interval(self) -> timedelta | None:
        """Time between checkpoints; None when time does not matter."""
        return self._when.time

    @property
    def best_k_models(self) -> dict[str, torch.Tensor]:
        """The monitored metric of each checkpoint that is kept."""
        return self._ranking.scores

    @best_k_models.setter
    def best_k_models(self, scores: dict[str, torch.Tensor]) -> None:
        self._ranking.scores = scores

    @property
    def state_key(self) -> str:
        """Distinguishes several of these in one run."""
        what = {"monitor": self.monitor, "mode": self.mode}
        when = {"every_n_train_steps": self._when.steps, "every_n_epochs": self._when.epochs}
        return f"{type(self).__qualname__}{what | when | {'train_time_interval': self._when.time}!r}"

    def state_dict(self) -> dict[str, Any]:
        """Which files are kept and how good they are."""
        return {
            "monitor": self.monitor,
            "best_model_score": self.best_model_score,
            "best_model_path": self.best_model_path,
            "current_score": self.current_score,
            "dirpath": self.dirpath,
            "best_k_models": dict(self.best_k_models),
            "kth_best_model_path": self.kth_best_model_path,
            "kth_value": self.kth_value,
            "last_model_path": self.last_model_path,
            "newest": self._newest,
            "saved_step": self._saved_step,
            "validated": self._validated,
            "validated_step": self._validated_step,
            "waiting": self._waiting,
            "of_validation": self._of_validation,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the files of the run before; in another folder, remember only which was best."""
        self._saved_step = state_dict.get("saved_step", 0)
        self._validated = state_dict.get("validated", False)
        self._validated_step = state_dict.get("validated_step", -1)
        self._waiting = state_dict.get("waiting", False)
        self._of_validation = state_dict.get("of_validation", False)
        self.best_model_path = state_dict["best_model_path"]
        before = state_dict.get("dirpath")
        if self.dirpath is not None and before != self.dirpath:
            warnings.warn(
                f"ModelCheckpoint saves to {self.dirpath} now and no longer to {before}: the ranking begins "
                "anew, the files there stay.",
                stacklevel=2,
            )
            return
        self.dirpath = before
        self.best_model_score = state_dict["best_model_score"]
        self.current_score = state_dict.get("current_score")
        scores = state_dict.get("best_k_models", {})
        self._ranking.scores = {path: torch.as_tensor(score) for path, score in scores.items()}
        self.kth_best_model_path = state_dict.get("kth_best_model_path", "")
        self.kth_value = torch.as_tensor(state_dict.get("kth_value", self._ranking.hopeless))
        self.last_model_path = state_dict.get("last_model_path", "")
        self._newest = state_dict.get("newest", "")

    # --- when -------------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Settle the folder, the same one on all ranks."""
        if self.dirpath is None:
            root = str(trainer.log_dir or trainer.default_root_dir)
            self.dirpath = trainer.fabric.broadcast(os.path.join(root, "checkpoints"))
        if self.save_last == "link":
            refuse_remote_link(self.dirpath)

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Decide when an epoch's checkpoint is saved."""
        if self.save_on_train_epoch_end is None:
            config = trainer.config
            within = config.val_check_interval != 1.0 or config.check_val_every_n_epoch != 1
            self.save_on_train_epoch_end = not (within and config.limit_val_batches)

    def on_train_start(self, trainer: "Trainer", module: "Module") -> None:
        """Start the clock."""
        self._clock = self._when.clock(trainer.fabric)

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """Remember the metric, to see whether validation is what logs it."""
        if self.monitor is not None:
            self._before_validation = trainer.logbook.callback_metrics.get(self.monitor)

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """See whether validation logged the metric."""
        if self.monitor is not None:
            now = trainer.logbook.callback_metrics.get(self.monitor)
            self._of_validation = now is not None and now is not self._before_validation
            self._before_validation = None
        if trainer.stage == "fit" and not trainer.sanity_checking:
            self._validated, self._validated_step = True, trainer.global_step

    def on_checkpoint_due(self, trainer: "Trainer", module: "Module", at_epoch_end: bool) -> None:
        """Save if it is time."""
        step, epoch = trainer.counters.global_step, trainer.counters.epoch
        validated, self._validated = self._validated, False
        by_epoch = (epoch + 1) % (self._when.epochs or 1) == 0 and (self._when.epochs > 0 or self._only_last)
        if at_epoch_end:
            due = by_epoch and (bool(self.save_on_train_epoch_end) or not trainer.enable_validation)
        else:
            due = self._triggered(step)
            due |= validated and (self._waiting or (by_epoch and not self.save_on_train_epoch_end))
        if due:
            self._save(trainer)

    def on_train_end(self, trainer: "Trainer", module: "Module") -> None:
        """Whatever the triggers were, there is a `last` if one was asked for."""
        nothing_yet = not self.last_model_path and trainer.global_step and not trainer.config.fast_dev_run
        if self.save_last and nothing_yet:
            self._save_last(trainer, self._metrics(trainer), None)

    def on_exception(self, trainer: "Trainer", module: "Module", exception: BaseException) -> None:
        """Keep what has been reached, if that was asked for."""
        unsaved = self._saved_step != trainer.global_step and not trainer.config.fast_dev_run
        if not self.save_on_exception or trainer.sanity_checking or not unsaved or self.dirpath is None:
            return
        metrics = self._metrics(trainer)
        path = self._free(trainer, metrics, None)
        self._write(trainer, path)
        if self.save_last:
            self._save_last(trainer, metrics, path)
        trainer.print(f"ModelCheckpoint: saved {path} because of {type(exception).__name__}")

    @property
    def _only_last(self) -> bool:
        return bool(self.save_last) and not self._when.steps and self._when.time is None

    def _triggered(self, step: int) -> bool:
        by_step = bool(self._when.steps) and step % self._when.steps == 0
        by_time = self._clock is not None and self._clock.due(step)
        if by_time:
            self._when.restart()
        return by_step or by_time

    # --- saving -----------------------------------------------------------------------------------

    def _save(self, trainer: "Trainer") -> None:
        """Save the ranked one and the last."""
        if trainer.counters.global_step == self._saved_step or trainer.config.fast_dev_run:
            return
        if trainer.world_size > 1:
            trainer.logbook.share_steps()
        metrics = self._metrics(trainer)
        saved = removed = None
        ranks = self.save_top_k != 0 and (self._when.epochs or not self._only_last)
        if ranks and self.monitor is None:
            saved, removed = self._save_newest(trainer, metrics)
        elif ranks and self._may_rank(trainer, metrics):
            saved, removed = self._save_ranked(trainer, metrics)
        if self.save_last:
            self._save_last(trainer, metrics, saved)
        self._remove(trainer, removed, saved)

    def _may_rank(self, trainer: "Trainer", metrics: dict[str, Any]) -> bool:
        """Whether the metric is there and belongs to these weights; else it is waited for."""
        assert self.monitor is not None
        known, fresh = self.monitor in metrics, self._validated_step == trainer.global_step
        self._waiting = trainer.enable_validation and not fresh and (self._of_validation or not known)
        if self._waiting and known and self.save_top_k == -1:
            metrics[self.monitor] = self._ranking.hopeless
            return True
        if (
            not known
            and not self._waiting
            and not (trainer.enable_validation and not trainer.counters.validations)
        ):
            raise trainer.logbook.missing("ModelCheckpoint(monitor)", self.monitor)
        return known and not self._waiting

    def _save_newest(self, trainer: "Trainer", metrics: dict[str, Any]) -> tuple[str, str | None]:
        before = self.best_model_path
        self.best_model_path = self._free(trainer, metrics, before)
        self._newest = self.best_model_path  # before it is written: the file tells of itself
        self._write(trainer, self.best_model_path)
        return self.best_model_path, before if before and self.save_top_k == 1 else None

    def _save_ranked(self, trainer: "Trainer", metrics: dict[str, Any]) -> tuple[str | None, str | None]:
        ranking = self._ranking
        score = torch.as_tensor(metrics[self.monitor or ""]).detach().cpu()
        if torch.isnan(score):
            score = ranking.hopeless
        if not ranking.admits(float(score)):
            self._tell(trainer, f"{self.monitor} {float(score):g} is not among the best {self.save_top_k}")
            return None, None
        evicted = ranking.evicted()
        path = self._free(trainer, metrics, evicted)
        if evicted is not None:
            del ranking.scores[evicted]
        self.current_score = ranking.scores[path] = score
        if len(ranking.scores) == self.save_top_k or self.save_top_k == -1:
            self.kth_best_model_path = ranking.worst
            self.kth_value = ranking.scores[ranking.worst]
        self.best_model_path = ranking.best
        self.best_model_score = ranking.scores[ranking.best]
        self._tell(trainer, f"{self.monitor} {float(score):g}: saving {path}")
        self._newest = path
        self._write(trainer, path)
        return path, evicted

    def _save_last(self, trainer: "Trainer", metrics: dict[str, Any], saved: str | None) -> None:
        if saved is not None:
            self._newest = saved
        elif self.save_last == "link" and self._newest and self.last_model_path:
            return  # the link points to the newest there is
        before, name = self.last_model_path, self.CHECKPOINT_NAME_LAST
        self.last_model_path = path = self._free(trainer, metrics, before, name)
        if self.save_last == "link" and self._newest:
            if trainer.is_global_zero:
                files.point_to(self._newest, path)
            trainer.fabric.barrier()
        else:
            self._write(trainer, path)
        self._remove(trainer, before, path)

    def _write(self, trainer: "Trainer", path: str) -> None:
        self._saved_step = trainer.counters.global_step
        trainer.save_checkpoint(path, self.save_weights_only)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if hasattr(logger, "after_save_checkpoint"):
                    logger.after_save_checkpoint(self)

    def _remove(self, trainer: "Trainer", path: str | None, instead: str | None) -> None:
        if path and path != instead and files.may_remove(path, self.dirpath or "", trainer.ckpt_path):
            trainer.fabric.strategy.remove_checkpoint(path)

    def _metrics(self, trainer: "Trainer") -> dict[str, Any]:
        """What names and ranking are made of, as rank 0 sees it, so that all ranks do the same."""
        values: dict[str, Any] = {
            name: value.detach().cpu() for name, value in trainer.callback_metrics.items()
        }
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        values |= {name: int(values[name]) if name in values else number for name, number in place.items()}
        return values if trainer.world_size == 1 else trainer.fabric.broadcast(values)

    def _tell(self, trainer: "Trainer", sentence: str) -> None:
        if self.verbose:
            trainer.print(
                f"ModelCheckpoint: epoch {trainer.current_epoch}, step {trainer.global_step}: {sentence}"
            )
