"""The training loop, top to bottom: run, epoch, batch."""

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from blixt.fabric import ConfigError
from blixt.fabric.agree import SHOULD_STOP
from blixt.trainer.config import TrainerConfig
from blixt.trainer.evaluate import Evaluation, WriteRow
from blixt.trainer.hooks import Hook, HookPlan
from blixt.trainer.loaders import StageLoader, Transfer
from blixt.trainer.logbook import Logbook
from blixt.trainer.losses import tell_of_lost
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig
from blixt.trainer.progress import Counters, rows_of
from blixt.trainer.schedules import Schedules
from blixt.trainer.step_kind import Step
from blixt.trainer.stop import StopAgreement
from blixt.trainer.validating import validate


class Leave(Enum):
    """Why the batches of an epoch ended."""

    EPOCH_OVER = "the loader is exhausted"
    SKIPPED = "a hook skipped the rest of the epoch"
    FINISHED = "the run has reached its end"
    STOPPED = "somebody asked to stop"
    INTERRUPTED = "the processes agreed to leave"


class Control(Protocol):
    """Where anybody may ask for the end of the fit."""

    should_stop: bool


@dataclass
class Run:
    """All parts of one fit, made before its first batch.

    Attributes:
        config: The trainer's arguments.
        control: Says whether somebody wants to stop.
        module: What is trained.
        loader: Its batches; made anew by `reload` where that is asked for.
        step: What one batch does.
        step_arguments: How many of (batch, batch_idx) `training_step` takes.
        transfer: The transfer hooks, or None.
        schedulers: Of learning rates; callbacks may replace them between epochs.
        evaluation: Makes (and keeps) the validation of this fit; None when there is none.
        hooks: Of module and callbacks.
        logbook: For `self.log`.
        counters: How far the run has come.
        stop: Lets all processes leave after the same batch.
        write_row: Takes a row for the loggers, and its step.
        reload: Makes the loader of an epoch.
        profile: Wraps what is measured; leaves it alone without a profiler.
        watched: Iterates over batches, measured if there is a profiler.
        validate_every: After how many batches; None for the end of the epoch.
        validated_at: When the last validation ended, on the monotonic clock.
        resumed: The epoch begins in its middle.
        clock: Says when a validation is due by wall time, the same on all ranks.
        drawn: `training_step` draws its batches itself.
        alone: There is one process only.
        index: The batch that runs now, or ran last.
        over: Its epoch has no further batch.
        lag: 1 from an optimizer step to the end of its batch: loggers count steps from 0.
        told_of_nan: Whether it has been said that the loss is no number any more.
    """

    config: TrainerConfig
    control: Control
    module: Module
    loader: StageLoader
    step: Step
    step_arguments: int
    transfer: Transfer | None
    schedulers: list[SchedulerConfig]
    evaluation: Callable[[], Evaluation | None] | None
    hooks: HookPlan
    logbook: Logbook
    counters: Counters
    stop: StopAgreement
    write_row: WriteRow
    reload: Callable[[], StageLoader]
    profile: Callable[[Callable[..., Any], str], Callable[..., Any]]
    watched: Callable[[Iterable[Any]], Iterable[Any]]
    validate_every: int | None = None
    validated_at: float = field(default_factory=time.monotonic)
    resumed: bool = False
    open_validation: bool = False
    clock: Callable[[int], bool] | None = None
    drawn: bool = False
    alone: bool = True
    index: int = -1
    over: bool = False
    lag: int = 0
    told_of_nan: bool = False


def fit(run: Run) -> Leave:
    """Run epochs until one of the limits is reached; returns why the last one ended."""
    reason = Leave.FINISHED
    run_epoch = run.profile(_run_epoch, "run_training_epoch")
    if run.counters.epoch_done:
        run.counters.next_epoch()
        run.resumed = False
    while run.open_validation or not is_over(run):
        reason = run_epoch(run)
        if reason is Leave.INTERRUPTED or not run.counters.epoch_done or _is_endless(run):
            break
        run.counters.next_epoch()
    return reason


def is_over(run: Run) -> bool:
    """Whether no further batch will run."""
    config, counters = run.config, run.counters
    epoch = counters.epoch + counters.epoch_done
    if epoch >= config.max_epochs != -1 or counters.global_step >= config.max_steps != -1:
        return True
    return run.loader.total == 0 or stops(run, "epoch")


def _is_endless(run: Run) -> bool:
    """Whether an epoch without a batch would be followed by such epochs for ever; such epochs are told."""
    if run.counters.batch:
        return False
    if run.config.max_epochs != -1:
        nothing = f"The training loader gave no batch in epoch {run.counters.epoch}."
        warnings.warn(f"{nothing} Check what its dataset yields.", stacklevel=2)
        return False
    warnings.warn(
        f"The fit ends: the training loader gave no batch in epoch {run.counters.epoch}, so that max_steps="
        f"{run.config.max_steps} would never be reached. Check what its dataset yields.",
        stacklevel=2,
    )
    return True


def stops(run: Run, moment: str) -> bool:
    """Whether `should_stop` ends the run here; with several processes only where all have set it.

    Set by some of them only, it ends the run a few batches later, on all alike: see `StopAgreement`.
    """
    if not run.control.should_stop or not may_stop(run):
        return False
    return run.alone or run.stop.unanimous(f"{run.counters.batches}/{moment}")


def may_stop(run: Run) -> bool:
    """Whether the least number of epochs and steps is done."""
    config, counters = run.config, run.counters
    epoch = counters.epoch + counters.epoch_done
    return epoch >= config.min_epochs and counters.global_step >= config.min_steps


def _run_epoch(run: Run) -> Leave:
    counters, logbook, hooks = run.counters, run.logbook, run.hooks
    run.loader = run.reload()
    run.validate_every = validation_interval(run.config, run.loader.total)
    run.loader.batches.set_epoch(counters.epoch)
    if run.resumed:
        run.resumed = False
    else:
        run.index, run.over = -1, False
        hooks.call("on_train_epoch_start")
    schedules = Schedules(run.schedulers, run.module, logbook)
    batches = counters.batches
    reason = _run_batches(run, schedules)
    automatic = run.module.automatic_optimization and reason in (Leave.EPOCH_OVER, Leave.FINISHED)
    _tell_of_nan(run, automatic and counters.batches > batches)
    if reason is Leave.INTERRUPTED:
        return reason
    if reason in (Leave.EPOCH_OVER, Leave.SKIPPED):
        run.over = True
        run.loader.batches.end_epoch()
        counters.epoch_closed = counters.epoch_done = True
    logbook.close_epoch()
    hooks.call("on_train_epoch_end")
    if run.over:
        schedules.watch("epoch", counters.epoch + 1)
    run.write_row(logbook.collect_epoch(reset=counters.epoch_done), max(counters.optimizer_steps - 1, 0))
    hooks.call("on_checkpoint_due", True)
    return reason


def _tell_of_nan(run: Run, stepped: bool) -> None:
    """Say once a fit that its loss is lost; asked once an epoch, because the answer waits for the device.

    Args:
        run: The fit.
        stepped: Whether a step ran in this epoch that should have had a loss.
    """
    loss = run.step.let_go()
    if not run.told_of_nan and (loss is not None or stepped):
        run.told_of_nan = tell_of_lost(loss, run.index, run.counters.epoch)


def _run_batches(run: Run, schedules: Schedules) -> Leave:
    """The hot loop: whatever does not change from batch to batch is a local name before it."""
    config, counters, logbook, control = run.config, run.counters, run.logbook, run.control
    step = run.profile(run.step.begin_epoch(), "run_training_batch")
    stop, alone, transfer, total = run.stop, run.alone, run.transfer, run.loader.total
    accumulate, with_index = config.accumulate_grad_batches, run.step_arguments > 1
    batch_start, batch_end = run.hooks.of("on_train_batch_start"), run.hooks.of("on_train_batch_end")
    checkpoint_due = run.hooks.of("on_checkpoint_due")
    log_every, max_steps = config.log_every_n_steps, config.max_steps
    writes = log_every > 0
    manual, has_schedules = not run.module.automatic_optimization, schedules.any
    validates = run.evaluation is not None and validates_in(config, counters.epoch)
    batches: Any = run.loader.batches
    ahead = run.loader.ahead
    drawn = run.drawn
    several = getattr(batches, "loader_index", None) is not None and not drawn
    index = counters.batch
    if run.open_validation:
        reason = _validate_late(run, schedules, validates)
        if reason is not None:
            return reason
    if counters.epoch_closed or (total is not None and index >= total):
        return Leave.EPOCH_OVER  # it was saved between its last batch and its end
    for batch in run.watched(batches):
        if transfer is not None and not drawn:
            batch = transfer(batch, batches.loader_index if several else 0)
        last: bool = batches.last if ahead else index + 1 == total
        run.index, logbook.batch = index, batch
        if batch_start and _any_skips(batch_start, *(batch.newest if drawn else (batch, index))):
            counters.batch = index + 1
            counters.batches += 1
            schedules.skip(index + 1, counters.epoch + 1)
            return Leave.SKIPPED
        boundary = accumulate == 1 or last or (index + 1) % accumulate == 0
        steps_before = counters.global_step
        logbook.hook = "training_step"
        outputs = step((batch, index) if with_index else (batch,), boundary)
        logbook.hook = None
        if drawn:  # only the step knows how much it drew
            last = batches.last
        index += 1
        counters.batch = index
        counters.batches += 1
        counters.samples += rows_of(batch)
        if boundary:
            counters.optimizer_steps += 1
            if not manual:
                counters.global_step += 1
            run.lag = 1
            counters.logs = writes and (
                counters.optimizer_steps % log_every == 0
                or (control.should_stop and (alone or stops(run, "step")))
            )
        else:
            counters.logs = False
        if has_schedules:
            schedules.after_batch(index, counters.epoch + 1, boundary, last)
        if last:
            counters.epoch_closed = True
        for hook in batch_end:
            hook(outputs, *(batch.newest if drawn else (batch, index - 1)))
        if counters.logs:
            run.write_row(logbook.collect_step(), counters.optimizer_steps - 1)
        if validates and _validation_due(run, index, last) and validate(run, boundary):
            return Leave.INTERRUPTED
        if has_schedules and boundary:
            schedules.watch("step", index)
        run.lag = 0
        if checkpoint_due and counters.global_step != steps_before:
            for hook in checkpoint_due:
                hook(False)
        if (stop.requested is not None or not alone) and boundary and stop.due(counters.batches):
            if stop.requested != SHOULD_STOP:
                return Leave.INTERRUPTED
            control.should_stop = True
            return Leave.STOPPED
        if last:
            return Leave.EPOCH_OVER
        if counters.global_step >= max_steps != -1:
            return Leave.FINISHED
        if control.should_stop and stops(run, "batch"):
            return Leave.STOPPED
    if not counters.epoch_closed and _end_short_epoch(run, schedules, validates):
        return Leave.INTERRUPTED
    return Leave.EPOCH_OVER


def owes_validation(run: Run) -> bool:
    """Whether the validation after the batch that ran last, before this run began, is still to come."""
    run.validate_every = validation_interval(run.config, run.loader.total)
    validates = run.evaluation is not None and validates_in(run.config, run.counters.epoch)
    return run.open_validation and validates and _late_validation_due(run)


def _late_validation_due(run: Run) -> bool:
    counters, total, every = run.counters, run.loader.total, run.validate_every
    ended_short = counters.epoch_closed and total is not None and counters.batch < total
    if ended_short and every is not None and every > counters.batch:
        return True
    return _validation_due(run, counters.batch, counters.epoch_closed)


def _validate_late(run: Run, schedules: Schedules, validates: bool) -> Leave | None:
    """Run the validation that was still to come when this run was saved; why the run ends with it."""
    run.open_validation = False
    counters, config = run.counters, run.config
    if not validates or not _late_validation_due(run):
        return None
    boundary = counters.epoch_closed or counters.batch % config.accumulate_grad_batches == 0
    run.lag = int(boundary)
    if validate(run, boundary):
        return Leave.INTERRUPTED
    if boundary:
        schedules.watch("step", counters.batch)
        run.lag = 0
        run.hooks.call("on_checkpoint_due", False)
    if counters.epoch_closed:
        return None
    if counters.global_step >= config.max_steps != -1:
        return Leave.FINISHED
    return Leave.STOPPED if stops(run, "batch") else None


def _end_short_epoch(run: Run, schedules: Schedules, validates: bool) -> bool:
    """What the last batch missed, of a loader that gave fewer than by its own account; as `validate`."""
    counters, every = run.counters, run.validate_every
    if run.step.flush():
        counters.optimizer_steps += 1
        counters.global_step += 1
    schedules.after_batch(counters.batch, counters.epoch + 1, False, True)
    counters.epoch_closed = True
    due = validates and (every is None or every > counters.batch)
    return due and validate(run, True)


def _any_skips(hooks: tuple[Hook, ...], batch: Any, index: int) -> bool:
    """Call all hooks; whether one of them wants to skip the rest of the epoch."""
    return -1 in [hook(batch, index) for hook in hooks]


def validation_interval(config: TrainerConfig, total: int | None) -> int | None:
    """After how many batches a validation is due; None for the end of the epoch.

    Args:
        config: What was asked for.
        total: Batches in an epoch, if known.

    Raises:
        ConfigError: When it cannot come about.
    """
    every = config.val_check_interval
    if isinstance(every, float):
        if total is not None:
            return max(1, int(total * every))
        if every == 1.0:
            return None
        reason = "a part of an epoch without a known length is unknown"
        fix = "Give a number of batches, e.g. 500, or a time, e.g. '10min'"
        raise ConfigError("Trainer(val_check_interval)", every, reason, fix)
    validates = config.limit_val_batches > 0 and config.check_val_every_n_epoch is not None
    if validates and total is not None and every > total > 0:
        reason = f"one epoch has {total} batches"
        fix = "Use check_val_every_n_epoch=None to count batches across epochs"
        raise ConfigError("Trainer(val_check_interval)", every, reason, fix)
    return every


def validates_in(config: TrainerConfig, epoch: int) -> bool:
    """Whether `check_val_every_n_epoch` lets this epoch have validations."""
    every = config.check_val_every_n_epoch
    return every is None or (epoch + 1) % every == 0


def _validation_due(run: Run, done: int, last: bool) -> bool:
    """Whether validation comes after the batch that makes `done` of this epoch."""
    config, every = run.config, run.validate_every
    if stops(run, "validation"):
        return True
    if run.clock is not None:
        return run.clock(run.counters.batches)
    if every is None:
        return last
    return (run.counters.batches if config.check_val_every_n_epoch is None else done) % every == 0
