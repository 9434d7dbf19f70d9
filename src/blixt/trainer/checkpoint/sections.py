"""Counters and the `loops` section of a checkpoint, in both directions.

The section counts each kind of event four times: `ready` and `started` when it begins, `processed` when its
work is done, `completed` when the hooks after it have run; once in `total` and once in `current` (since the
epoch began). Where in an epoch a file was saved follows from which of the four are behind.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from blixt.trainer.progress import Counters

Section = dict[str, Any]


def loops_of(
    counters: Counters,
    *,
    manual: bool = False,
    plateau: bool = False,
    validation_batches: int = 0,
    scheduler_steps: tuple[int, int] = (0, 0),
    loader_states: Sequence[Mapping[str, Any]] = (),
) -> Section:
    """The `loops` section for a fit that is where `counters` says.

    Args:
        counters: How far the fit has come.
        manual: Whether the module steps its optimizers itself.
        plateau: Whether a scheduler watches a metric.
        validation_batches: Batches of a whole validation, over all loaders.
        scheduler_steps: Of all schedulers, in all and in this epoch.
        loader_states: Of the training loaders that keep their own state.
    """
    over = _is_over(counters, plateau)
    total, current, last = _batches(counters, over)
    unstepped = 1 if total["completed"] < total["processed"] else 0
    steps = counters.optimizer_steps or counters.global_step
    keeps = loader_states and not over
    in_epoch = counters.global_step - counters.epoch_began_at
    automatic = (0, 0) if manual else (counters.global_step, in_epoch)
    by_hand = (counters.global_step, in_epoch) if manual else (0, 0)
    fit: Section = {
        "state_dict": {"combined_loader": [dict(s) for s in loader_states]} if keeps else {},
        "epoch_loop.state_dict": {"_batches_that_stepped": max(0, steps - unstepped)},
        "epoch_loop.batch_progress": {"total": total, "current": current, "is_last_batch": last},
        "epoch_loop.scheduler_progress": _pair(*map(_done, scheduler_steps)),
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": _optimizer(*automatic),
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": _pair(*map(_done, by_hand)),
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.batch_progress": _validation(counters, validation_batches),
        "epoch_progress": _epochs(counters, over),
    }
    return {
        "fit_loop": fit,
        "validate_loop": _evaluation(),
        "test_loop": _evaluation(),
        "predict_loop": {"state_dict": {}, "batch_progress": _pair(_all(0), _all(0))},
    }


def counters_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The counters in a checkpoint of blixt, or what the `loops` section of another tells of them."""
    own = checkpoint.get("blixt", {}).get("counters")
    if own is not None:
        return dict(own)
    fit: Section = dict(checkpoint.get("loops", {}).get("fit_loop", {}))
    if "epoch_progress" not in fit:
        return _of_epoch_and_step(checkpoint)
    epochs, batches = fit["epoch_progress"]["current"], fit.get("epoch_loop.batch_progress", {})
    ready, processed = epochs.get("ready", 0), epochs.get("processed", epochs.get("completed", 0))
    within = batches.get("current", {})
    done = within.get("processed", within.get("completed", 0))
    if not ready and not processed and epochs.get("completed"):
        return _of_next_epoch(epochs["completed"], _steps(fit, checkpoint))
    over = processed > 0 and processed >= ready
    closed = bool(batches.get("is_last_batch")) and 0 < done >= within.get("ready", done)
    return {
        "epoch": processed - 1 if over else processed,
        "batch": done,
        "batches": _value(batches, "total", "processed"),
        "global_step": _steps(fit, checkpoint),
        "optimizer_steps": _stepped(fit, checkpoint, batches),
        "epoch_began_at": _steps(fit, checkpoint) - _in_epoch(fit),
        "epoch_closed": over or closed,
        "epoch_done": over,
        "validations": 0,
        "validated_at": _value(batches, "total", "processed"),
        "loaders_epoch": processed - 1 if over else processed,
    }


def loader_states_of(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of stateful training loaders in a file that has no `blixt` section."""
    fit = checkpoint.get("loops", {}).get("fit_loop", {})
    return list(fit.get("state_dict", {}).get("combined_loader", []))


def _of_next_epoch(epoch: int, steps: int) -> dict[str, Any]:
    """Files older than release 1.6 say which epoch comes next, and nothing of batches."""
    return {"epoch": epoch, "global_step": steps, "optimizer_steps": steps}


def _of_epoch_and_step(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Files without a `loops` section: `epoch` is the one that was over when they were saved."""
    step = checkpoint.get("global_step", 0)
    return {
        "epoch": checkpoint.get("epoch", 0),
        "global_step": step,
        "optimizer_steps": step,
        "epoch_closed": True,
        "epoch_done": True,
    }


def _steps(fit: Section, checkpoint: Mapping[str, Any]) -> int:
    automatic = fit.get("epoch_loop.automatic_optimization.optim_progress", {}).get("optimizer", {})
    manual = fit.get("epoch_loop.manual_optimization.optim_step_progress", {})
    counted = _value(automatic.get("step", {}), "total", "completed") or _value(manual, "total", "completed")
    return counted or checkpoint.get("global_step", 0)


def _in_epoch(fit: Section) -> int:
    automatic = fit.get("epoch_loop.automatic_optimization.optim_progress", {}).get("optimizer", {})
    manual = fit.get("epoch_loop.manual_optimization.optim_step_progress", {})
    return _value(automatic.get("step", {}), "current", "completed") or _value(manual, "current", "completed")


def _stepped(fit: Section, checkpoint: Mapping[str, Any], batches: Section) -> int:
    """Batches that stepped; the newest is not in the number when the file was saved within its hooks."""
    saved = fit.get("epoch_loop.state_dict", {}).get("_batches_that_stepped")
    if saved is None:
        return checkpoint.get("global_step", 0)
    within_hooks = _value(batches, "total", "completed") < _value(batches, "total", "processed")
    return saved + within_hooks


def _value(progress: Mapping[str, Any], span: str, name: str) -> int:
    return cast("int", progress.get(span, {}).get(name, 0))


def _is_over(counters: Counters, plateau: bool) -> bool:
    """Whether the epoch is told to be over.

    Between the last batch and the hooks of the epoch's end Lightning can go on only after a validation that
    no scheduler watches: it forgets what was logged. Otherwise those hooks are left out for it.
    """
    validated = counters.validated_at == counters.batches and not plateau
    return counters.epoch_done or (counters.epoch_closed and not validated)


def _batches(counters: Counters, over: bool) -> tuple[Section, Section, bool]:
    """Batch progress: within an epoch as if saved in the hooks after a batch, which any reader can resume."""
    total, current = _all(counters.batches), _all(counters.batch)
    if counters.batch > 0 and not over and not counters.epoch_closed:
        total["completed"] -= 1
        current["completed"] -= 1
    return total, current, over or counters.epoch_closed


def _epochs(counters: Counters, over: bool) -> Section:
    epoch = counters.epoch
    if over:
        numbers = {"ready": epoch + 1, "completed": epoch, "started": epoch + 1, "processed": epoch + 1}
    elif counters.batch > 0:
        numbers = {"ready": epoch + 1, "completed": epoch, "started": epoch + 1, "processed": epoch}
    else:
        numbers = _all(epoch)
    return _pair(numbers, dict(numbers))


def _optimizer(total: int, current: int) -> Section:
    zeroed = [{"ready": steps, "completed": steps, "started": steps} for steps in (total, current)]
    return {"optimizer": {"step": _pair(_done(total), _done(current)), "zero_grad": _pair(*zeroed)}}


def _validation(counters: Counters, batches: int) -> Section:
    """Its batches in this epoch, and in its newest run."""
    current = batches if counters.validations else 0
    total = batches * (counters.validations - counters.validations_before)
    return {**_pair(_all(total), _all(current)), "is_last_batch": current > 0}


def _evaluation() -> Section:
    return {"state_dict": {}, "batch_progress": {**_pair(_all(0), _all(0)), "is_last_batch": False}}


def _pair(total: Section, current: Section) -> Section:
    return {"total": total, "current": current}


def _done(count: int) -> Section:
    return {"ready": count, "completed": count}


def _all(count: int) -> Section:
    return {"ready": count, "completed": count, "started": count, "processed": count}
