"""Bring the layouts of older Lightning releases up to the one that is read and written here.

Each step has the release in which the layout changed; a file gets all steps of releases newer than itself.
The changes are those that Lightning's release notes and its upgrade tool describe.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any

LAYOUT = "2.6.6"
"""The release of Lightning whose layout is written: other tools look for it under this key."""
VERSION_KEY = "pytorch-lightning_version"

Checkpoint = dict[str, Any]


def migrate_checkpoint(
    checkpoint: Checkpoint, target_version: str | None = None
) -> tuple[Checkpoint, dict[str, list[str]]]:
    """Apply to `checkpoint`, in place, the changes of layout since the release that wrote it.

    Args:
        checkpoint: The content of a file.
        target_version: Go no further than this release; None for all.

    Returns:
        The same dict, and the names of the steps that were applied, by release.
    """
    applied: dict[str, list[str]] = {}
    version = checkpoint.get(VERSION_KEY)
    if version is None:  # another tool's file, of no release
        return checkpoint, applied
    for release, steps in _STEPS.items():
        beyond = target_version is not None and _number(release) > _number(target_version)
        if beyond or _number(version) >= _number(release):
            continue
        for step in steps:
            step(checkpoint)
        applied[release] = [step.__name__ for step in steps]
    if _number(version) < _number(LAYOUT):
        checkpoint.setdefault("legacy_pytorch-lightning_version", version)
        checkpoint[VERSION_KEY] = LAYOUT
    return checkpoint, applied


def _number(version: str) -> tuple[int, ...]:
    """ "2.1.0rc1" as (2, 1, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _rename_monitor_keys(checkpoint: Checkpoint) -> None:
    """0.10: what checkpoint and early-stopping callbacks keep moved below `callbacks`."""
    moved = {
        "checkpoint_callback_best_model_score": ("ModelCheckpoint", "best_model_score"),
        "checkpoint_callback_best_model_path": ("ModelCheckpoint", "best_model_path"),
        "checkpoint_callback_best": ("ModelCheckpoint", "best_model_score"),
        "early_stop_callback_wait": ("EarlyStopping", "wait_count"),
        "early_stop_callback_patience": ("EarlyStopping", "patience"),
    }
    states: dict[str, dict[str, Any]] = checkpoint.get("callbacks") or {}
    checkpoint["callbacks"] = states
    for old, (callback, new) in moved.items():
        if old in checkpoint:
            states.setdefault(callback, {})[new] = checkpoint.pop(old)


def _count_steps_in_loops(checkpoint: Checkpoint) -> None:
    """1.6.0: the optimizer steps are counted by the loops."""
    fit = _fit_loop(checkpoint)
    step = checkpoint["global_step"]
    optimizer = fit["epoch_loop.batch_loop.optimizer_loop.optim_progress"]["optimizer"]
    optimizer["step"]["total"]["completed"] = step
    fit["epoch_loop.batch_loop.manual_loop.optim_step_progress"]["total"]["completed"] = step


def _count_epochs_in_loops(checkpoint: Checkpoint) -> None:
    """1.6.0: so are the epochs."""
    _fit_loop(checkpoint)["epoch_progress"]["current"]["completed"] = checkpoint["epoch"]


def _count_stepping_batches(checkpoint: Checkpoint) -> None:
    """1.6.5: batches that stepped are counted apart from optimizer steps."""
    state = _fit_loop(checkpoint)["epoch_loop.state_dict"]
    state.setdefault("_batches_that_stepped", checkpoint["global_step"])


def _shorten_checkpoint_keys(checkpoint: Checkpoint) -> None:
    """1.9.0: `save_on_train_epoch_end` is no longer part of a ModelCheckpoint's key."""
    states = checkpoint.get("callbacks")
    if not states:
        return
    pattern = re.compile(", 'save_on_train_epoch_end': (None|True|False)")
    shorter = {
        pattern.sub("", key) if key.startswith("ModelCheckpoint") else key: state
        for key, state in states.items()
        if isinstance(key, str)
    }
    if len(shorter) < len(states):
        warnings.warn(
            "Several ModelCheckpoint callbacks in this checkpoint have keys that are the same today, so "
            "which state belongs to which is unknown: at least one of them begins anew.",
            stacklevel=4,
        )
        return
    checkpoint["callbacks"] = shorter


def _drop_apex(checkpoint: Checkpoint) -> None:
    """2.0.0: the state of NVIDIA's apex scaler has no reader any more."""
    if checkpoint.pop("amp_scaling_state", None) is not None:
        warnings.warn("The checkpoint's apex scaler state is left out: nothing reads it now.", stacklevel=4)


def _drop_batch_loop(checkpoint: Checkpoint) -> None:
    """2.0.0: with truncated backpropagation the batch loop went; its parts belong to the epoch loop."""
    fit = _present_fit_loop(checkpoint)
    if fit is None:
        return
    for part in ("manual_loop.optim_step_progress", "manual_loop.state_dict"):
        _move(fit, f"epoch_loop.batch_loop.{part}", f"epoch_loop.{part}")
    for part in ("optimizer_loop.optim_progress", "optimizer_loop.state_dict"):
        _move(fit, f"epoch_loop.batch_loop.{part}", f"epoch_loop.{part}")
    left = fit.pop("epoch_loop.batch_loop.state_dict", None)
    if left:
        fit["epoch_loop.state_dict"]["old_batch_loop_state_dict"] = left


def _rename_optimization(checkpoint: Checkpoint) -> None:
    """2.0.0: one optimizer is stepped automatically, so there is no position among several."""
    fit = _present_fit_loop(checkpoint)
    if fit is None:
        return
    fit.get("epoch_loop.optimizer_loop.optim_progress", {}).pop("optimizer_position", None)
    _move(fit, "epoch_loop.optimizer_loop.state_dict", "epoch_loop.automatic_optimization.state_dict")
    _move(fit, "epoch_loop.optimizer_loop.optim_progress", "epoch_loop.automatic_optimization.optim_progress")
    _move(fit, "epoch_loop.manual_loop.state_dict", "epoch_loop.manual_optimization.state_dict")
    _move(
        fit,
        "epoch_loop.manual_loop.optim_step_progress",
        "epoch_loop.manual_optimization.optim_step_progress",
    )


def _flatten_evaluation(checkpoint: Checkpoint) -> None:
    """2.0.0: evaluation has one loop instead of one over loaders around one over batches."""
    for name in ("predict_loop", "validate_loop", "test_loop"):
        loop = checkpoint.get("loops", {}).get(name)
        if loop is None:
            continue
        loop.pop("dataloader_progress", None)
        for key in [key for key in loop if key.startswith("epoch_loop.")]:
            loop[key.removeprefix("epoch_loop.")] = loop.pop(key)


_STEPS: dict[str, list[Callable[[Checkpoint], None]]] = {
    "0.10.0": [_rename_monitor_keys],
    "1.6.0": [_count_steps_in_loops, _count_epochs_in_loops],
    "1.6.5": [_count_stepping_batches],
    "1.9.0": [_shorten_checkpoint_keys],
    "2.0.0": [_drop_apex, _drop_batch_loop, _rename_optimization, _flatten_evaluation],
}


def _move(section: dict[str, Any], old: str, new: str) -> None:
    if old in section:
        section[new] = section.pop(old)


def _present_fit_loop(checkpoint: Checkpoint) -> dict[str, Any] | None:
    return checkpoint.get("loops", {}).get("fit_loop")


def _fit_loop(checkpoint: Checkpoint) -> dict[str, Any]:
    """The training loop's section; a fresh one, as release 1.6.0 would write it, where there is none."""
    return checkpoint.setdefault("loops", {}).setdefault("fit_loop", _fresh_fit_loop())


def _fresh_fit_loop() -> dict[str, Any]:
    def spans(*names: str) -> dict[str, Any]:
        return {span: dict.fromkeys(names, 0) for span in ("current", "total")}

    every, pair = ("completed", "processed", "ready", "started"), ("completed", "ready")
    optimizer = {"step": spans(*pair), "zero_grad": spans("completed", "ready", "started")}
    return {
        "epoch_loop.batch_loop.manual_loop.optim_step_progress": spans(*pair),
        "epoch_loop.batch_loop.manual_loop.state_dict": {},
        "epoch_loop.batch_loop.optimizer_loop.optim_progress": {
            "optimizer": optimizer,
            "optimizer_position": 0,
        },
        "epoch_loop.batch_loop.optimizer_loop.state_dict": {},
        "epoch_loop.batch_loop.state_dict": {},
        "epoch_loop.batch_progress": {**spans(*every), "is_last_batch": False},
        "epoch_loop.scheduler_progress": spans(*pair),
        "epoch_loop.state_dict": {"_batches_that_stepped": 0},
        "epoch_loop.val_loop.dataloader_progress": spans(*pair),
        "epoch_loop.val_loop.epoch_loop.batch_progress": {**spans(*every), "is_last_batch": False},
        "epoch_loop.val_loop.epoch_loop.state_dict": {},
        "epoch_loop.val_loop.state_dict": {},
        "epoch_progress": spans(*every),
        "state_dict": {},
    }
