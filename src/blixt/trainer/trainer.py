"""The loop you do not want to write: epochs, validation, logging, checkpoints, exact resume."""

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Never, cast

import torch
from torch.optim import Optimizer

from blixt.fabric import (
    ConfigError,
    Fabric,
    FabricError,
    Logger,
    isolate_rng,
    reject_unknown,
)
from blixt.fabric.accelerators import Devices
from blixt.fabric.checkpoint import load_file, save_file
from blixt.trainer import checkpoint as checkpoints
from blixt.trainer import loaders
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
from blixt.trainer.callbacks.progress_bar import ProgressBar
from blixt.trainer.config import Limit, MaxTime, TrainerConfig, make_config
from blixt.trainer.datamodule import DataModule
from blixt.trainer.defaults import make_callbacks, make_loggers
from blixt.trainer.evaluate import Evaluation, Kind, step_arguments
from blixt.trainer.fit import Leave, Run, fit, validation_interval
from blixt.trainer.hooks import HookPlan
from blixt.trainer.logbook import Logbook, Page
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig, parse_optimizers
from blixt.trainer.progress import Counters
from blixt.trainer.stage import Running, by_loader, sentence
from blixt.trainer.step import Step, make_step
from blixt.trainer.stop import SignalHandlers, StopAgreement
from blixt.trainer.summary import summarize
from blixt.trainer.views import Stage, TrainerViews

_KINDS: dict[str, Kind] = {"validate": "validation", "test": "test", "predict": "predict"}


class Trainer(TrainerViews):
    """Runs a `Module` on a `Fabric`.

    All arguments are by keyword. Those about devices are Fabric's.

    Args:
        accelerator: "auto", "cpu", "cuda", "gpu" or "mps".
        strategy: "auto", "single_device", "ddp" or "ddp_find_unused_parameters_true".
        devices: Processes on this machine, or which devices.
        num_nodes: Machines.
        precision: "32", "bf16-mixed" or "16-mixed".
        logger: True for TensorBoard's files, or CSV where TensorBoard is not installed; False for none;
            or loggers. A job of blixt's cloud logs into its Experiment as well.
        callbacks: What else happens at the hooks.
        fast_dev_run: Run this many batches (True: 1) of everything, without loggers and checkpoints.
        max_epochs: -1 for no limit; default 1000, or no limit when `max_steps` or `max_time` is given.
        min_epochs: Train at least so long, whatever wants to stop.
        max_steps: Optimizer steps; -1 for no limit.
        min_steps: Train at least so long.
        max_time: "DD:HH:MM:SS", a timedelta, or a dict for one.
        limit_train_batches: Of an epoch: a number, or a part (float).
        limit_val_batches: Of each validation loader.
        limit_test_batches: Of each test loader.
        limit_predict_batches: Of each predict loader.
        overfit_batches: Train and validate on so much of the data, without shuffling.
        val_check_interval: Validate after so many batches, or after a part of an epoch (float).
        check_val_every_n_epoch: None lets `val_check_interval` count batches across epochs.
        num_sanity_val_steps: Validation batches before training, to fail early; -1 for all.
        log_every_n_steps: Optimizer steps between rows for the loggers; 0 for none.
        enable_checkpointing: Add a `ModelCheckpoint` if there is none.
        enable_progress_bar: Add a `ProgressBar` if there is none.
        enable_model_summary: Print what the module is made of.
        accumulate_grad_batches: Batches whose gradients make one optimizer step.
        gradient_clip_val: Bound on gradients.
        gradient_clip_algorithm: "norm" of all of them, or each "value".
        deterministic: Only use deterministic algorithms; "warn" where there are none.
        inference_mode: Evaluate in torch's inference mode rather than without gradients only.
        use_distributed_sampler: Divide map-style loaders among the processes.
        detect_anomaly: Find the operation that made a NaN; slow.
        default_root_dir: Where logs and checkpoints go; default the working directory.

    Raises:
        ConfigError: Naming the argument, its value, the reason and the fix.

    Example:
        >>> trainer = Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False)
        >>> trainer.max_epochs
        2
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        strategy: str = "auto",
        devices: Devices = "auto",
        num_nodes: int = 1,
        precision: str | int = "32",
        logger: bool | Logger | list[Logger] | None = None,
        callbacks: Callback | list[Callback] | None = None,
        fast_dev_run: bool | int = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: MaxTime | None = None,
        limit_train_batches: Limit = 1.0,
        limit_val_batches: Limit = 1.0,
        limit_test_batches: Limit = 1.0,
        limit_predict_batches: Limit = 1.0,
        overfit_batches: Limit = 0.0,
        val_check_interval: Limit = 1.0,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int = 2,
        log_every_n_steps: int = 50,
        enable_checkpointing: bool = True,
        enable_progress_bar: bool = True,
        enable_model_summary: bool = True,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] = "norm",
        deterministic: bool | Literal["warn"] = False,
        inference_mode: bool = True,
        use_distributed_sampler: bool = True,
        detect_anomaly: bool = False,
        default_root_dir: str | os.PathLike[str] | None = None,
        **unknown: Never,
    ) -> None:
        reject_unknown("Trainer", unknown, Trainer.__init__.__kwdefaults__ or ())
        self.config: TrainerConfig = make_config(
            {name: value for name, value in locals().items() if name in TrainerConfig.__dataclass_fields__}
            | {"max_time": max_time}
        )
        self.fabric = Fabric(
            accelerator=accelerator,
            strategy=strategy,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
        )
        self.default_root_dir = Path(default_root_dir if default_root_dir is not None else ".").absolute()
        self.loggers: list[Logger] = make_loggers(
            logger, self.default_root_dir, self.fabric, quiet=bool(self.config.fast_dev_run)
        )
        self.callbacks: list[Callback] = make_callbacks(
            callbacks, enable_checkpointing, enable_progress_bar, self.config
        )
        self._print_summary = enable_model_summary
        if deterministic:
            torch.use_deterministic_algorithms(True, warn_only=deterministic == "warn")
        self.counters = Counters()
        self.logbook = Logbook(self.fabric)
        self.optimizers: list[Optimizer] = []
        self.lr_scheduler_configs: list[SchedulerConfig] = []
        self.should_stop = False
        self.interrupted = False
        self.sanity_checking = False
        self.validates = False
        self.stage: Stage | None = None
        self.datamodule: DataModule | None = None
        self._module: Module | None = None
        self._hooks: HookPlan | None = None
        self._train: loaders.StageLoader | None = None
        self._evaluations: dict[Kind, Evaluation] = {}
        self._row: dict[str, float] = {}
        self._runs = 0

    # --- the verbs --------------------------------------------------------------------------------

    def fit(
        self,
        model: Module,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        *,
        weights_only: bool = True,
    ) -> None:
        """Train.

        Args:
            model: What to train.
            train_dataloaders: The loader; or a data module; default the module's or data module's.
            val_dataloaders: One or several.
            datamodule: Where loaders come from.
            ckpt_path: Go on from this checkpoint, exactly: a path, "last", "best", or "auto" (the newest
                below `default_root_dir`, or from the beginning when there is none).
            weights_only: Refuse checkpoints that hold more than tensors and plain values.
        """
        if isinstance(train_dataloaders, DataModule):
            train_dataloaders, datamodule = None, train_dataloaders
        with Running(self, "fit", model, datamodule):
            path = self._find_checkpoint(ckpt_path, "fit")
            content = None if path is None else load_file(path, weights_only=weights_only)
            self._fit(model, train_dataloaders, val_dataloaders, content)
        if self.interrupted:
            raise SystemExit(143)

    def validate(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
    ) -> list[dict[str, float]]:
        """Run the validation loaders; returns one dict of metrics a loader."""
        return self._evaluate("validate", model, dataloaders, ckpt_path, verbose, datamodule)

    def test(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
    ) -> list[dict[str, float]]:
        """Run the test loaders; returns one dict of metrics a loader."""
        return self._evaluate("test", model, dataloaders, ckpt_path, verbose, datamodule)

    def predict(
        self,
        model: Module | None = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        return_predictions: bool = True,
        ckpt_path: str | os.PathLike[str] | None = None,
    ) -> list[Any] | None:
        """Run `predict_step`; returns its outputs, a list a loader if there are several."""
        return self._evaluate(
            "predict", model, dataloaders, ckpt_path, False, datamodule, keep=return_predictions
        )

    def save_checkpoint(self, filepath: str | os.PathLike[str], weights_only: bool = False) -> None:
        """Write a checkpoint; call it on all ranks."""
        content = checkpoints.dump(self._parts(), weights_only)
        if self.is_global_zero:
            save_file(filepath, content)
        self.fabric.barrier()

    # --- fit --------------------------------------------------------------------------------------

    def _fit(self, module: Module, train: Any, val: Any, content: dict[str, Any] | None) -> None:
        hooks, counters = self.hooks, self.counters
        self.should_stop, self.interrupted = False, False
        step = self._prepare_training(module, content)
        hooks.call("on_fit_start")
        self._introduce(module)
        found = loaders.find_loaders("val", val, module, self.datamodule)
        validation = self._evaluation("validation", found)
        self.validates = validation is not None
        if content is None and validation is not None and self.config.num_sanity_val_steps:
            self._sanity_check(validation)
        given = loaders.find_loaders("train", train, module, self.datamodule)
        if given is None:
            reason = "there is nothing to train on"
            raise ConfigError(
                "fit(train_dataloaders)", None, reason, "Give a loader, or write train_dataloader"
            )
        self._train = loaders.prepare(given, "train", self.fabric, self.config, self._transfer(module))
        page, limit_s = Page(), self.config.max_time_s
        self.logbook.turn_to(page)
        self._runs += 1
        stop = StopAgreement(self.fabric, self._runs)
        run = Run(
            config=self.config,
            module=module,
            loader=self._train,
            step=step,
            step_arguments=min(2, step_arguments(module.training_step)),
            transfer=self._transfer(module),
            schedulers=self.lr_scheduler_configs,
            validation=validation,
            validate_every=validation_interval(self.config, self._train.total) if validation else None,
            hooks=hooks,
            logbook=self.logbook,
            counters=counters,
            stop=stop,
            page=page,
            write_row=self.write_row,
            should_stop=lambda: self.should_stop,
            deadline=None if limit_s is None else time.monotonic() + limit_s,
        )
        module.train()
        with ExitStack() as stack:
            stack.enter_context(SignalHandlers(stop.request))
            self.logbook.training = page
            stack.callback(setattr, self.logbook, "training", None)
            if self.config.detect_anomaly:
                stack.enter_context(torch.autograd.set_detect_anomaly(True))
            hooks.call("on_train_start")
            if content is not None:
                checkpoints.restore_position(content, self._parts())
                run.resumed = counters.batch > 0
            stop.start(counters.batches)
            stack.callback(stop.close)
            if fit(run) is Leave.INTERRUPTED:
                self._leave_early(stop)
        hooks.call("on_train_end")
        hooks.call("on_fit_end")

    def _prepare_training(self, module: Module, content: dict[str, Any] | None) -> Step:
        """Weights, optimizers and the step function, in the state of the checkpoint if there is one."""
        self.counters.load(Counters().state_dict())
        if content is not None:
            checkpoints.restore_model(content, self._parts())
            checkpoints.restore_callbacks(content, self._parts())
        module.to(self.fabric.device)
        self.optimizers, self.lr_scheduler_configs = parse_optimizers(module.configure_optimizers())
        if content is not None:
            checkpoints.restore_optimizers(content, self._parts())
        ready = self.fabric.setup_optimizers(*self.optimizers)
        self.optimizers = list(cast("tuple[Optimizer, ...]", ready if isinstance(ready, tuple) else (ready,)))
        return make_step(module, self.fabric, self.optimizers, self.hooks, self.config, self.counters)

    def _sanity_check(self, validation: Evaluation) -> None:
        self.sanity_checking = True
        self.hooks.call("on_sanity_check_start")
        kept = dict(self.logbook.callback_metrics)
        with isolate_rng(self.fabric.device):
            validation.run(max_batches=self.config.num_sanity_val_steps)
        validation.steps = 0
        self.logbook.callback_metrics.clear()
        self.logbook.callback_metrics.update(kept)
        self.logbook.bar_metrics.clear()
        self.hooks.call("on_sanity_check_end")
        self.sanity_checking = False

    def _introduce(self, module: Module) -> None:
        if self.is_global_zero:
            if module.hparams:
                for logger in self.loggers:
                    logger.log_hyperparams(module.hparams)
            if self._print_summary and any(isinstance(c, ProgressBar) for c in self.callbacks):
                print(summarize(module))

    def _leave_early(self, stop: StopAgreement) -> None:
        """Save what is needed to go on; an outside signal also ends the process, with its usual code."""
        if self.checkpoint_callback is not None:
            self.save_checkpoint(self.checkpoint_dir / "last.ckpt")
        self.interrupted = stop.requested != "max_time"
        self.print(f"blixt: stopped after step {self.global_step} ({stop.requested}).")

    # --- validate, test, predict ------------------------------------------------------------------

    def _evaluate(
        self,
        stage: Literal["validate", "test", "predict"],
        model: Module | None,
        given: Any,
        ckpt_path: str | os.PathLike[str] | None,
        verbose: bool,
        datamodule: DataModule | None,
        keep: bool = False,
    ) -> Any:
        if isinstance(given, DataModule):
            given, datamodule = None, given
        path = self._find_checkpoint(ckpt_path, stage)
        module = model if model is not None else self.lightning_module
        kind = _KINDS[stage]
        short = {"validation": "val"}.get(kind, kind)
        with Running(self, stage, module, datamodule if datamodule is not None else self.datamodule):
            if path is not None:
                checkpoints.restore_model(load_file(path), self._parts())
            module.to(self.fabric.device)
            evaluation = self._evaluation(kind, loaders.find_loaders(short, given, module, self.datamodule))
            if evaluation is None:
                reason = f"there is nothing to {stage}"
                raise ConfigError(
                    f"{stage}(dataloaders)", None, reason, f"Give a loader, or write {short}_dataloader"
                )
            result = evaluation.run(self.counters.epoch, keep_outputs=keep)
        if stage == "predict":
            return (result[0] if len(result) == 1 else result) if keep else None
        rows = by_loader(result, len(evaluation.loaders))
        if verbose and self.is_global_zero:
            print("\n".join(f"{stage}: {sentence(row)}" for row in rows if row))
        return rows

    def _evaluation(self, kind: Kind, found: Any) -> Evaluation | None:
        stage = {"validation": "val"}.get(kind, kind)
        transfer = self._transfer(self.lightning_module)
        ready = [
            loaders.prepare(loader, stage, self.fabric, self.config, transfer)
            for loader in loaders.as_sequence(found)
        ]
        if not ready or all(loader.total == 0 for loader in ready):
            return None
        self._evaluations[kind] = Evaluation(
            kind,
            self.lightning_module,
            self.fabric,
            self.hooks,
            self.logbook,
            ready,
            transfer,
            self.config.inference_mode,
            self.write_row,
        )
        return self._evaluations[kind]

    # --- parts ------------------------------------------------------------------------------------

    def take_up(self, stage: Stage, module: Module, datamodule: DataModule | None) -> HookPlan:
        """Work with these from now on; returns which hooks they and the callbacks have."""
        self.stage, self._module, self.datamodule = stage, module, datamodule
        self._evaluations.clear()
        module.trainer = self
        if datamodule is not None:
            datamodule.trainer = self
        self._adopt_callbacks(module.configure_callbacks())
        self._hooks = HookPlan(self, module, self.callbacks, self.logbook)
        return self._hooks

    def _adopt_callbacks(self, own: Any) -> None:
        """The module's callbacks replace those of the same class; checkpoints come last."""
        extra: list[Callback] = list(cast("list[Callback]", own)) if isinstance(own, (list, tuple)) else [own]
        kinds = {type(callback) for callback in extra}
        kept = [callback for callback in self.callbacks if type(callback) not in kinds]
        self.callbacks = sorted([*kept, *extra], key=lambda callback: isinstance(callback, ModelCheckpoint))

    def _transfer(self, module: Module) -> loaders.Transfer | None:
        return loaders.transfer_hooks(module, self.datamodule, self.fabric)

    def _parts(self) -> checkpoints.Parts:
        return checkpoints.Parts(
            self.fabric,
            self.lightning_module,
            self.datamodule,
            self.callbacks,
            self.hooks,
            self.counters,
            self.optimizers,
            self.lr_scheduler_configs,
            self.logbook,
            self._train.batches if self._train is not None else None,
        )

    def _find_checkpoint(self, wanted: str | os.PathLike[str] | None, stage: str) -> Path | None:
        callback, root = self.checkpoint_callback, self.default_root_dir
        return checkpoints.find_checkpoint(wanted, stage, callback, root, self.fabric)

    # --- rows for loggers -------------------------------------------------------------------------

    def add_to_row(self, numbers: Mapping[str, float]) -> None:
        """Let `numbers` travel with the next row for the loggers."""
        self._row.update(numbers)

    def write_row(self, row: dict[str, float], step: int | None = None) -> None:
        """Send a row to the loggers, with the epoch, at `step` or the current optimizer step."""
        if self.sanity_checking or not (row or self._row):
            return
        full = {**self._row, **row, "epoch": float(self.counters.epoch)}
        self._row.clear()
        if self.is_global_zero:
            for logger in self.loggers:
                logger.log_metrics(full, self.counters.global_step if step is None else step)

    @property
    def hooks(self) -> HookPlan:
        """Which hooks are really there."""
        if self._hooks is None:
            raise FabricError("The trainer has not run anything yet. Call fit, validate, test or predict.")
        return self._hooks
