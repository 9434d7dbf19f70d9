"""The training loop, top to bottom: run, epoch, batch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from blixt.fabric import ConfigError
from blixt.trainer.config import TrainerConfig
from blixt.trainer.evaluate import Evaluation
from blixt.trainer.hooks import HookPlan
from blixt.trainer.loaders import StageLoader, Transfer
from blixt.trainer.logbook import Logbook, Page
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig
from blixt.trainer.progress import Counters
from blixt.trainer.step import Step
from blixt.trainer.stop import StopAgreement


class Leave(Enum):
    """Why the batches of an epoch ended."""

    EPOCH_OVER = "the loader is exhausted"
    SKIPPED = "a hook skipped the rest of the epoch"
    FINISHED = "the run has reached its end"
    STOPPED = "somebody asked to stop"
    INTERRUPTED = "the processes agreed to leave"


@dataclass
class Run:
    """All parts of one fit, made before its first batch."""

    config: TrainerConfig
    module: Module
    loader: StageLoader
    step: Step
    step_arguments: int
    transfer: Transfer | None
    schedulers: list[SchedulerConfig]
    validation: Evaluation | None
    validate_every: int | None
    hooks: HookPlan
    logbook: Logbook
    counters: Counters
    stop: StopAgreement
    page: Page
    write_row: Callable[[dict[str, float], int | None], None]
    should_stop: Callable[[], bool]
    deadline: float | None = None
    resumed: bool = False


def fit(run: Run) -> Leave:
    """Run epochs until one of the limits is reached; returns why the last one ended."""
    reason = Leave.FINISHED
    if run.counters.epoch_done:
        run.counters.next_epoch()
        run.resumed = False
    while not _run_is_over(run):
        reason = _run_epoch(run)
        if reason in (Leave.FINISHED, Leave.STOPPED, Leave.INTERRUPTED):
            break
        run.counters.next_epoch()
    return reason


def _run_is_over(run: Run) -> bool:
    config, counters = run.config, run.counters
    if counters.epoch >= config.max_epochs != -1 or counters.global_step >= config.max_steps != -1:
        return True
    return run.should_stop() and _may_stop(run)


def _may_stop(run: Run) -> bool:
    config, counters = run.config, run.counters
    return counters.epoch >= config.min_epochs and counters.global_step >= config.min_steps


def _run_epoch(run: Run) -> Leave:
    counters, logbook = run.counters, run.logbook
    run.loader.batches.set_epoch(counters.epoch)
    if run.resumed:
        run.resumed = False
    else:
        for slot in run.page.slots.values():
            slot.reset()
        run.hooks.call("on_train_epoch_start")
    reason = _run_batches(run)
    if reason is Leave.INTERRUPTED:
        return reason
    if reason in (Leave.EPOCH_OVER, Leave.SKIPPED):
        run.loader.batches.end_epoch()
        if run.step.flush():
            counters.global_step += 1
        if not counters.epoch_closed:
            _close_epoch(run)
            run.hooks.call("on_checkpoint_due", False)
        counters.epoch_done = True
    run.hooks.call("on_train_epoch_end")
    run.write_row(logbook.collect_epoch(reset=counters.epoch_done), None)
    run.hooks.call("on_checkpoint_due", True)
    if counters.epoch_done and run.should_stop() and _may_stop_after_epoch(run):
        return Leave.STOPPED
    return reason


def _may_stop_after_epoch(run: Run) -> bool:
    counters, config = run.counters, run.config
    return counters.epoch + 1 >= config.min_epochs and counters.global_step >= config.min_steps


def _run_batches(run: Run) -> Leave:
    """The hot loop: whatever does not change from batch to batch is a local name before it."""
    config, counters, logbook, step = run.config, run.counters, run.logbook, run.step
    total, cut, transfer = run.loader.total, run.loader.cut, run.transfer
    accumulate, arguments = config.accumulate_grad_batches, run.step_arguments
    batch_start, batch_end = run.hooks.of("on_train_batch_start"), run.hooks.of("on_train_batch_end")
    checkpoint_due = run.hooks.of("on_checkpoint_due")
    log_every, max_steps = config.log_every_n_steps, config.max_steps
    manual, step_schedulers = not run.module.automatic_optimization, _of_interval(run, "step")
    across = config.check_val_every_n_epoch is None
    validate_every = run.validate_every if _validates_this_epoch(run) else None
    index = counters.batch
    drained = counters.epoch_closed and run.loader.batches.delivered == 0
    if drained or (cut and index >= (total or 0)):
        return Leave.EPOCH_OVER
    for batch in run.loader.batches:
        if transfer is not None:
            batch = transfer(batch, 0)
        logbook.batch = batch
        for hook in batch_start:
            if hook(batch, index) == -1:
                return Leave.SKIPPED
        last = index + 1 == total
        boundary = accumulate == 1 or (index + 1) % accumulate == 0 or last
        steps_before = counters.global_step
        logbook.hook = "training_step"
        outputs = step((batch, index)[:arguments], boundary)
        logbook.hook = None
        index += 1
        counters.batch = index
        counters.batches += 1
        if not manual:
            counters.global_step += boundary
        stepped = counters.global_step != steps_before
        counters.logs = stepped and log_every > 0 and counters.global_step % log_every == 0
        if stepped and step_schedulers:
            _step_schedulers(run, step_schedulers, counters.global_step)
        for hook in batch_end:
            hook(outputs, batch, index - 1)
        if counters.logs:
            run.write_row(logbook.collect_step(), None)
        if last:
            _close_epoch(run)
        elif validate_every and (counters.batches if across else index) % validate_every == 0:
            _validate(run)
        if stepped:
            for hook in checkpoint_due:
                hook(False)
        if run.deadline is not None and time.monotonic() > run.deadline:
            run.stop.request("max_time")
        if boundary and run.stop.due(counters.batches):
            return Leave.INTERRUPTED
        if not last and counters.global_step >= max_steps != -1:
            return Leave.FINISHED
        if run.should_stop() and not last and _may_stop(run):
            return Leave.STOPPED
        if cut and last:
            return Leave.EPOCH_OVER
    return Leave.EPOCH_OVER


def _close_epoch(run: Run) -> None:
    """What belongs to the end of an epoch: schedulers, validation, schedulers that watch it."""
    counters = run.counters
    counters.epoch_closed = True
    plain = [s for s in _of_interval(run, "epoch") if not s.reduce_on_plateau]
    _step_schedulers(run, plain, counters.epoch + 1)
    if _validates_at_end(run):
        _validate(run)
    watching = [s for s in _of_interval(run, "epoch") if s.reduce_on_plateau]
    _step_schedulers(run, watching, counters.epoch + 1)


def validation_interval(config: TrainerConfig, total: int | None) -> int | None:
    """After how many batches a validation is due; None for the end of the epoch.

    Args:
        config: What was asked for.
        total: Batches in an epoch, if known.
    """
    every = config.val_check_interval
    if isinstance(every, float):
        if every == 1.0:
            return None
        if total is None:
            reason = "a part of an epoch without a known length is unknown"
            raise ConfigError("Trainer(val_check_interval)", every, reason, "Give a number of batches")
        return max(1, int(total * every))
    if config.check_val_every_n_epoch is not None and total is not None and every > total:
        reason = f"one epoch has {total} batches"
        fix = "Use check_val_every_n_epoch=None to count batches across epochs"
        raise ConfigError("Trainer(val_check_interval)", every, reason, fix)
    return every


def _validates_this_epoch(run: Run) -> bool:
    every = run.config.check_val_every_n_epoch
    return run.validation is not None and (every is None or (run.counters.epoch + 1) % every == 0)


def _validates_at_end(run: Run) -> bool:
    if not _validates_this_epoch(run):
        return False
    every, counters = run.validate_every, run.counters
    if every is None:
        return True
    count = counters.batches if run.config.check_val_every_n_epoch is None else counters.batch
    return count > 0 and count % every == 0


def _validate(run: Run) -> None:
    assert run.validation is not None
    run.hooks.call_module("on_validation_model_zero_grad")
    run.validation.run(run.counters.epoch)
    run.counters.validations += 1


def _of_interval(run: Run, interval: str) -> list[SchedulerConfig]:
    return [scheduler for scheduler in run.schedulers if scheduler.interval == interval]


def _step_schedulers(run: Run, schedulers: list[SchedulerConfig], count: int) -> None:
    for config in schedulers:
        if count % config.frequency:
            continue
        metric: torch.Tensor | None = None
        if config.monitor is not None and config.reduce_on_plateau:
            metric = run.logbook.newest().get(config.monitor)
            if metric is None:
                if not config.strict:
                    continue
                known = ", ".join(sorted(run.logbook.callback_metrics)) or "none"
                reason = f"no such metric has been logged; known: {known}"
                raise ConfigError(
                    "lr_scheduler(monitor)", config.monitor, reason, "Log it, or correct the name"
                )
        run.logbook.hook = "lr_scheduler_step"
        run.module.lr_scheduler_step(config.scheduler, metric)
        run.logbook.hook = None
