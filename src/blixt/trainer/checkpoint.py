"""Everything a run needs to go on as if nothing had happened, in a dict shaped like Lightning's."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

import blixt
from blixt.fabric import (
    CheckpointError,
    ConfigError,
    Fabric,
    ResumableLoader,
    all_gather_objects,
    capture_rng,
    restore_rng,
)
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import HookPlan
from blixt.trainer.logbook import Logbook
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig
from blixt.trainer.progress import Counters, counters_of

_LAYOUT = "2.6.0"  # the release of Lightning whose layout this is; its tools look for it


@dataclass
class Parts:
    """What of a trainer goes into a checkpoint."""

    fabric: Fabric
    module: Module
    datamodule: DataModule | None
    callbacks: Sequence[Callback]
    hooks: HookPlan
    counters: Counters
    optimizers: list[Optimizer]
    schedulers: list[SchedulerConfig]
    logbook: Logbook
    loader: ResumableLoader | None


def dump(parts: Parts, weights_only: bool = False) -> dict[str, Any]:
    """The checkpoint; all ranks call it, because each has its own random numbers and loader position."""
    counters = parts.counters
    checkpoint: dict[str, Any] = {
        "epoch": counters.epoch,
        "global_step": counters.global_step,
        "pytorch-lightning_version": _LAYOUT,
        "state_dict": parts.module.state_dict(),
        "loops": counters.as_loops(),
        "blixt": {"version": blixt.__version__, "counters": counters.state_dict()},
    }
    if parts.module.hparams:
        checkpoint["hyper_parameters"] = dict(parts.module.hparams)
    if not weights_only:
        checkpoint["optimizer_states"] = [optimizer.state_dict() for optimizer in parts.optimizers]
        checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in parts.schedulers]
        states = {callback.state_key: callback.state_dict() for callback in parts.callbacks}
        checkpoint["callbacks"] = {key: state for key, state in states.items() if state}
        if parts.fabric.scaler is not None:
            checkpoint["MixedPrecision"] = parts.fabric.scaler.state_dict()
        checkpoint["blixt"]["ranks"] = all_gather_objects(_of_this_rank(parts))
    if parts.datamodule is not None:
        if parts.datamodule.hparams:
            checkpoint["datamodule_hyper_parameters"] = dict(parts.datamodule.hparams)
        state = parts.datamodule.state_dict()
        if state:
            checkpoint[type(parts.datamodule).__qualname__] = state
    parts.hooks.call("on_save_checkpoint", checkpoint)
    return checkpoint


def _of_this_rank(parts: Parts) -> dict[str, Any]:
    return {
        "rng": capture_rng(parts.fabric.device),
        "loader": parts.loader.state_dict() if parts.loader is not None else None,
        "logbook": parts.logbook.state_dict(),
    }


def restore_model(checkpoint: dict[str, Any], parts: Parts, strict: bool = True) -> None:
    """Weights and everything the hooks, the data module and the callbacks keep."""
    parts.hooks.call_module("on_load_checkpoint", checkpoint)
    if "state_dict" not in checkpoint:
        raise CheckpointError("The checkpoint holds no state_dict, so it is not one of a Trainer.")
    try:
        parts.module.load_state_dict(checkpoint["state_dict"], strict=strict)
    except RuntimeError as error:
        raise CheckpointError(f"The checkpoint does not fit this module: {error}") from error
    if parts.datamodule is not None and type(parts.datamodule).__qualname__ in checkpoint:
        parts.datamodule.load_state_dict(checkpoint[type(parts.datamodule).__qualname__])


def restore_callbacks(checkpoint: dict[str, Any], parts: Parts) -> None:
    """Let the callbacks see the checkpoint and give each its own state back."""
    for hook in parts.hooks.of_callbacks("on_load_checkpoint"):
        hook(checkpoint)
    states = checkpoint.get("callbacks", {})
    for callback in parts.callbacks:
        if callback.state_key in states:
            callback.load_state_dict(states[callback.state_key])


def restore_optimizers(checkpoint: dict[str, Any], parts: Parts) -> None:
    """Optimizers, schedulers and the gradient scaler, and the counters."""
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(
            "The checkpoint holds only weights, so training cannot go on from it. "
            "Load it with load_from_checkpoint and fit without ckpt_path."
        )
    saved = checkpoint["optimizer_states"]
    if len(saved) != len(parts.optimizers):
        raise CheckpointError(
            f"The checkpoint has {len(saved)} optimizer(s) and this module {len(parts.optimizers)}."
        )
    for optimizer, state in zip(parts.optimizers, saved, strict=True):
        optimizer.load_state_dict(state)
    for config, state in zip(parts.schedulers, checkpoint["lr_schedulers"], strict=False):
        config.scheduler.load_state_dict(state)
    if parts.fabric.scaler is not None and "MixedPrecision" in checkpoint:
        parts.fabric.scaler.load_state_dict(checkpoint["MixedPrecision"])
    parts.counters.load(counters_of(checkpoint))


def restore_position(checkpoint: dict[str, Any], parts: Parts) -> None:
    """The loader's position, half-finished epoch means and random numbers of this rank.

    With another number of processes than before, random numbers cannot be the same; loaders whose
    position does not depend on the rank go on where all processes together were.
    """
    ranks = checkpoint.get("blixt", {}).get("ranks")
    if ranks is None:
        warnings.warn("The checkpoint holds no data position: the epoch begins anew.", stacklevel=2)
        parts.counters.batch = 0
        return
    same_world = len(ranks) == parts.fabric.world_size
    mine = ranks[parts.fabric.global_rank if same_world else 0]
    if parts.loader is not None and mine["loader"] is not None:
        position = mine["loader"] if same_world else _rescaled(mine["loader"], len(ranks), parts)
        parts.loader.load_state_dict(position)
    if same_world:
        parts.logbook.load_state_dict(mine["logbook"])
        restore_rng(mine["rng"], parts.fabric.device)
    else:
        warnings.warn(
            f"The checkpoint was saved by {len(ranks)} process(es), now there are {parts.fabric.world_size}: "
            "data goes on where it was, random numbers begin anew.",
            stacklevel=2,
        )


def _rescaled(position: dict[str, Any], processes: int, parts: Parts) -> dict[str, Any]:
    batches = position["batches"] * processes // parts.fabric.world_size
    parts.counters.batch = batches
    return {**position, "batches": batches}


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint below `folder` that was written last."""
    found = [path for path in folder.rglob("*.ckpt") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def find_checkpoint(
    wanted: str | os.PathLike[str] | None,
    stage: str,
    callback: ModelCheckpoint | None,
    root: Path,
    fabric: Fabric,
) -> Path | None:
    """The file that `ckpt_path` means, the same on all ranks; None to begin anew."""
    if wanted is None:
        return None
    if wanted == "best":
        if callback is None or not callback.best_model_path:
            reason = "this trainer has saved no checkpoint yet"
            raise ConfigError(f"{stage}(ckpt_path)", wanted, reason, "Fit first, or give a path")
        return Path(callback.best_model_path)
    if wanted not in ("auto", "last"):
        return Path(wanted)
    folder = Path(callback.dirpath) if callback is not None and callback.dirpath else root
    found = fabric.broadcast(newest_checkpoint(folder))
    if found is None and wanted == "last":
        raise CheckpointError(f"There is no checkpoint below {folder}. Use ckpt_path='auto' to begin then.")
    return found
