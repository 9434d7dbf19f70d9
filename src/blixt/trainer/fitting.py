"""One fit, from the module to the loop: weights, optimizers, loaders, checks."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch

from blixt.fabric import ConfigError, isolate_rng
from blixt.trainer import checkpoint as checkpoints
from blixt.trainer.callback import Callback, let_callbacks_log
from blixt.trainer.callbacks.timed import TimedDecision
from blixt.trainer.combined_steps import takes_iterator, until_drawn_up
from blixt.trainer.compiling import Compile, compiled
from blixt.trainer.complete import can_validate, check_fit, warn_of_evaluation_mode
from blixt.trainer.datamodule import DataModule
from blixt.trainer.defaults import checkpoints_last
from blixt.trainer.evaluate import Evaluation, Kind, step_arguments
from blixt.trainer.fit import Leave, Run, fit, is_over, owes_validation, validates_in
from blixt.trainer.hooks import HookPlan, overridden, profiled, watched
from blixt.trainer.hparams import logged_hparams
from blixt.trainer.loader_stage import LoaderStage
from blixt.trainer.loaders import StageLoader
from blixt.trainer.logbook import Page
from blixt.trainer.manual_sync import ManualSync
from blixt.trainer.module import Module
from blixt.trainer.optimizers import NoOptimizer, parse_optimizers
from blixt.trainer.progress import Counters
from blixt.trainer.state import RunningStage, TrainerFn, TrainerStatus
from blixt.trainer.step import make_step
from blixt.trainer.step_kind import Step
from blixt.trainer.stop import SignalHandlers, StopAgreement

_EVALUATED: dict[TrainerFn, Kind] = {
    TrainerFn.FITTING: "validation",
    TrainerFn.VALIDATING: "validation",
    TrainerFn.TESTING: "test",
    TrainerFn.PREDICTING: "predict",
}
_RUNS = itertools.count(1)
"""Tells the fits of a process apart, alike on all ranks."""


class FitStage(LoaderStage):
    """What `Trainer.fit` does between its hooks, and what it shares with the other stages."""

    _compile: Compile
    _adopts_callbacks: bool
    _manual_sync: ManualSync | None = None

    # --- what every stage begins with -------------------------------------------------------------

    def take_up(self, fn: TrainerFn, module: Module, datamodule: DataModule | None) -> HookPlan:
        """Work with these from now on; returns which hooks they and the callbacks have."""
        self._module, self.datamodule, self._model = module, datamodule, None
        self._evaluations.pop(_EVALUATED[fn], None)
        if fn is TrainerFn.FITTING:
            self._train = self._run = None
        self._given = {}
        self._left_epoch_before(fn)
        module.trainer = self  # pyright: ignore[reportAttributeAccessIssue] - this is the Trainer's base
        if datamodule is not None:
            datamodule.trainer = self  # pyright: ignore[reportAttributeAccessIssue]
        self.logbook.begin_run(module)
        self.logbook.disabled = self.config.barebones
        if self._adopts_callbacks:
            self._adopt_callbacks(module.configure_callbacks())
        let_callbacks_log(self.callbacks, module)
        self._hooks = HookPlan(self, module, self.callbacks, self.logbook, self._profiler)  # pyright: ignore[reportArgumentType]
        return self._hooks

    def _left_epoch_before(self, fn: TrainerFn) -> None:
        if fn is TrainerFn.FITTING and self._left_epoch:
            self._left_epoch = False
            self.counters.next_epoch()

    def _adopt_callbacks(self, own: Any) -> None:
        """The module's callbacks replace those of the same class; checkpoints come last."""
        several = isinstance(own, (list, tuple))
        extra = list(cast("Sequence[Callback]", own)) if several else [cast("Callback", own)]
        kinds = {type(callback) for callback in extra}
        kept = [callback for callback in self.callbacks if type(callback) not in kinds]
        self.callbacks = checkpoints_last([*kept, *extra])

    def _place(self, module: Module) -> None:
        """Parameters become what they will be in this run."""
        fabric = self.fabric
        module = fabric.precision.convert_module(module)  # pyright: ignore[reportAssignmentType]
        self._model = fabric.strategy.shard(module, fabric.device)
        compiled(module, self._compile)

    # --- fit --------------------------------------------------------------------------------------

    def _fit(
        self, module: Module, train: Any, val: Any, path: str | None, weights_only: bool | None
    ) -> Leave:
        check_fit(module, self.datamodule, train)
        self.should_stop = self.received_sigterm = False
        wanted = self.config.limit_val_batches > 0
        self._validates = can_validate(module, self.datamodule, val, wanted)
        self._given = {"train": train, "val": val}
        self._may_make_train = True
        content = self._restored_modules(path, weights_only)
        arguments = min(2, step_arguments(module.training_step))  # before a strategy wraps it
        step = self._prepare_training(module)
        self.hooks.call("on_fit_start")
        self._log_hyperparameters(module)
        if content is not None:
            checkpoints.restore_optimizers(content, self._parts())
            self._refuse_later_epoch(path)
        module.zero_grad()
        evaluation = self._validation if self.enable_validation else None
        if content is None and self.config.num_sanity_val_steps and evaluation is not None:
            self._sanity_check(evaluation)
        self._may_make_train = False
        if self.config.limit_train_batches == 0:
            self.print("blixt: fit ends at once, limit_train_batches is 0.")
            return Leave.FINISHED
        if self._train is None:
            self._train = self._new_train_loader()
        page = Page()
        self.logbook.turn_to(page)
        run = self._run = self._make_run(module, step, arguments, self._train, evaluation)
        interval_s = self.config.val_check_s
        if interval_s is not None:
            run.clock = TimedDecision(self.fabric, partial(_time_left, run, interval_s)).due
        if content is None and is_over(run):
            self._say_why_over(run)
            return Leave.FINISHED
        return self._train_on(run, page, content)

    def _train_on(self, run: Run, page: Page, content: dict[str, Any] | None) -> Leave:
        stop, hooks, logbook = run.stop, self.hooks, self.logbook
        warn_of_evaluation_mode(run.module)
        with ExitStack() as stack:
            stack.callback(run.step.forget)
            stack.enter_context(SignalHandlers(stop.request, self.fabric.environment))
            logbook.training = page
            stack.callback(setattr, logbook, "training", None)
            stack.enter_context(torch.autograd.set_detect_anomaly(self.config.detect_anomaly))
            first = self.counters.epoch + self.counters.epoch_done
            wanted = content is not None or validates_in(self.config, first)
            if run.evaluation is not None and wanted and "validation" not in self._evaluations:
                run.evaluation()
            if content is not None:
                checkpoints.restore_position(content, self._parts())
                counters = self.counters
                run.resumed = counters.batch > 0
                open_epoch = run.resumed and not self.counters.epoch_done
                run.open_validation = open_epoch and self.counters.validated_at != self.counters.batches
                if is_over(run) and not owes_validation(run):
                    self._say_why_over(run)
                    if self.counters.epoch_done:
                        self.counters.next_epoch()
                    return Leave.FINISHED
            hooks.call("on_train_start")
            stop.start(self.counters.batches)
            stack.callback(stop.close)
            reason = fit(run)
            self._left_epoch = reason in (Leave.FINISHED, Leave.STOPPED) and not self.counters.epoch_done
            self._left_epoch = self._left_epoch and self.counters.batch > 0
            if reason is Leave.INTERRUPTED:
                self._leave_early(stop)
        hooks.call("on_train_end")
        return reason

    def _restored_modules(self, path: str | None, weights_only: bool | None) -> dict[str, Any] | None:
        """Read the checkpoint and restore all that can be before optimizers exist."""
        self._place(self.lightning_module)
        if path is None:
            return None
        content = checkpoints.load(path, self.fabric, weights_only)
        self.counters.load(Counters().state_dict())
        checkpoints.restore_model(content, self._parts())
        checkpoints.restore_callbacks(content, self._parts())
        return content

    def _prepare_training(self, module: Module) -> Step:
        """Optimizers and the step function."""
        automatic, fabric = module.automatic_optimization, self.fabric
        found, self.lr_scheduler_configs = parse_optimizers(module.configure_optimizers(), automatic)
        found = found or ([NoOptimizer()] if automatic else [])
        self.optimizers = fabric.strategy.setup_optimizers(module, found, fabric.device)
        self._manual_sync = None
        if not automatic and fabric.world_size > 1 and fabric.strategy.name == "ddp":
            self._manual_sync = ManualSync(fabric, module)
            forward, no_sync = module.training_step, self._manual_sync.off
        else:
            forward, no_sync = fabric.strategy.forward_of(module, "training_step", fabric.device)
        if takes_iterator(module.training_step):
            forward = until_drawn_up(forward)
        forward = fabric.precision.wrap(forward, fabric.device)
        label = f"[Strategy]{type(fabric.strategy).__name__}.training_step"
        return make_step(
            module,
            fabric,
            self.optimizer_handles,
            self.hooks,
            self.config,
            self.counters,
            profiled(forward, self._profiler, label),
            no_sync if fabric.world_size > 1 else None,
        )

    def _make_run(
        self,
        module: Module,
        step: Step,
        arguments: int,
        loader: StageLoader,
        evaluation: Callable[[], Evaluation | None] | None,
    ) -> Run:
        return Run(
            config=self.config,
            control=self,
            module=module,
            loader=loader,
            step=step,
            step_arguments=arguments,
            transfer=self._transfer(module),
            schedulers=self.lr_scheduler_configs,
            evaluation=evaluation,
            hooks=self.hooks,
            logbook=self.logbook,
            counters=self.counters,
            stop=StopAgreement(self.fabric, next(_RUNS)),
            write_row=self.write_row,
            reload=self._loader_of_epoch,
            drawn=takes_iterator(module.training_step),
            alone=self.fabric.world_size == 1,
            profile=lambda function, label: profiled(function, self._profiler, label),
            watched=lambda batches: watched(
                batches, self._profiler, "[_TrainingEpochLoop].train_dataloader_next"
            ),
        )

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Backward of a manual step, as strategy, precision and the module want it."""
        module, fabric = self.lightning_module, self.fabric
        if overridden(module, "backward", Module):
            scaled = loss if fabric.scaler is None else fabric.scaler.scale(loss)
            module.backward(scaled, *args, **kwargs)
        else:
            fabric.backward(loss, *args, **kwargs)
        if self._manual_sync is not None:
            self._manual_sync.after_backward()

    # --- before the first batch -------------------------------------------------------------------

    def _sanity_check(self, make: Callable[[], Evaluation | None]) -> None:
        self.state.stage = RunningStage.SANITY_CHECKING
        self.hooks.call("on_sanity_check_start")
        with isolate_rng(self.fabric.device):
            evaluation = make()
            if evaluation is not None:
                evaluation.run(max_batches=self.config.num_sanity_val_steps)
                evaluation.steps = [0] * len(evaluation.steps)
                evaluation.total_index = -1
        self.hooks.call("on_sanity_check_end")
        self.logbook.begin_run(self.lightning_module)
        self.state.stage = RunningStage.TRAINING

    def _log_hyperparameters(self, module: Module) -> None:
        if not (self.config.enable_autolog_hparams and self.loggers):
            return
        merged = logged_hparams(self.datamodule, module)
        if self.is_global_zero:
            for logger in self.loggers:
                if merged:
                    logger.log_hyperparams(merged)
                with isolate_rng(self.fabric.device):  # who draws the operations runs the model once
                    logger.log_graph(module)
                logger.save()

    def _say_why_over(self, run: Run) -> None:
        config, counters = run.config, run.counters
        if run.loader.total == 0:
            why = "the training loader is empty"
        elif counters.global_step >= config.max_steps != -1:
            why = f"max_steps={config.max_steps} has been reached"
        elif counters.epoch + counters.epoch_done >= config.max_epochs != -1:
            why = f"max_epochs={config.max_epochs} has been reached"
        else:
            why = "should_stop was set"
        self.print(f"blixt: fit ends at once, {why}.")

    def _refuse_later_epoch(self, path: str | None) -> None:
        reached, limit = self.counters.epoch + self.counters.epoch_done, self.config.max_epochs
        if reached > limit != -1:
            reason = f"the checkpoint {path} has reached epoch {reached}"
            fix = "Raise max_epochs, or leave ckpt_path out to begin anew"
            raise ConfigError("Trainer(max_epochs)", limit, reason, fix)

    def _leave_early(self, stop: StopAgreement) -> None:
        """Save what is needed to go on; an outside signal also ends the process, with its usual code."""
        if stop.requested != "max_time":
            self.state.status = TrainerStatus.INTERRUPTED
            self.received_sigterm = stop.requested == "SIGTERM"
        path = os.path.join(str(self.checkpoint_dir), "last.ckpt")
        if stop.requeues:
            path = self.fabric.broadcast(checkpoints.hpc_path(self.default_root_dir))
        self._save(path)
        self.print(f"blixt: stopped after step {self.global_step} ({stop.requested}).")
        stop.finish()

    # --- parts ------------------------------------------------------------------------------------

    def _parts(self) -> checkpoints.Parts:
        validation = self._evaluations.get("validation")
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
            validation.loaders if validation is not None else (),
        )

    def _save(self, path: str, weights_only: bool = False, storage_options: Any = None) -> None:
        write = profiled(checkpoints.save, self._profiler, "save_checkpoint")
        write(self._parts(), path, weights_only, storage_options)


def _time_left(run: Run, interval_s: float) -> float:
    """Seconds to the next validation."""
    return interval_s - (time.monotonic() - run.validated_at)
