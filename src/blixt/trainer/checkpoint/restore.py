"""Give every part of a trainer its state back."""

import copy
import random
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from blixt.fabric import CheckpointError, restore_rng
from blixt.trainer.checkpoint.parts import Parts
from blixt.trainer.checkpoint.sections import counters_of, loader_states_of
from blixt.trainer.checkpoint.weights import load_weights
from blixt.trainer.combined_batches import reseed, settle

_SCALER_KEYS = ("MixedPrecision", "MixedPrecisionPlugin", "native_amp_scaling_state")


def restore_model(checkpoint: dict[str, Any], parts: Parts, strict: bool | None = None) -> None:
    """Weights and everything the hooks and the data module keep.

    Args:
        checkpoint: The content of a file.
        parts: Of the trainer.
        strict: Whether the names of all weights must match; None asks the module's `strict_loading`.
    """
    parts.hooks.call_module("on_load_checkpoint", checkpoint)
    if strict is None:
        strict = cast("bool", getattr(parts.module, "strict_loading", True))
    load_weights(parts.module, checkpoint, strict, parts.fabric.strategy)
    if parts.datamodule is not None and type(parts.datamodule).__qualname__ in checkpoint:
        parts.datamodule.load_state_dict(checkpoint[type(parts.datamodule).__qualname__])


def restore_callbacks(checkpoint: dict[str, Any], parts: Parts, tell: bool = True) -> None:
    """Let the callbacks see the checkpoint and give each its own state back.

    A state that none of them owns is left alone, with a warning if `tell`: whoever resumes probably forgot a
    callback. Evaluation needs fewer of them.
    """
    for hook in parts.hooks.of_callbacks("on_load_checkpoint"):
        hook(checkpoint)
    states: Mapping[str, Any] = checkpoint.get("callbacks") or {}
    used: set[str] = set()
    for callback in parts.callbacks:
        names = (callback.state_key, type(callback).__qualname__)
        key = next((name for name in names if name in states), None)
        if key is not None:
            used.add(key)
            callback.load_state_dict(copy.deepcopy(states[key]))
    unused = [str(key) for key in states if key not in used]
    if unused and tell:
        warnings.warn(
            f"The checkpoint has the state of callbacks that this trainer does not have: "
            f"{', '.join(unused)}. Add them to Trainer(callbacks=...), with the arguments they had.",
            stacklevel=2,
        )


def restore_optimizers(checkpoint: dict[str, Any], parts: Parts) -> None:
    """Optimizers, schedulers and the gradient scaler, and the counters."""
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(
            "The checkpoint holds only weights, so training cannot go on from it. "
            "Load it with load_from_checkpoint and fit without ckpt_path."
        )
    _restore_optimizers(checkpoint["optimizer_states"], parts)
    saved = checkpoint.get("lr_schedulers", [])
    if len(saved) != len(parts.schedulers):
        warnings.warn(
            f"The checkpoint has {len(saved)} learning-rate scheduler(s) and this module "
            f"{len(parts.schedulers)}: those that have no state begin anew.",
            stacklevel=2,
        )
    for config, state in zip(parts.schedulers, saved, strict=False):
        config.scheduler.load_state_dict(state)
    state = next((checkpoint[key] for key in _SCALER_KEYS if key in checkpoint), None)
    if parts.fabric.scaler is not None and state:
        parts.fabric.scaler.load_state_dict(state)
    parts.counters.load(counters_of(checkpoint))
    watches = any(config.reduce_on_plateau for config in parts.schedulers)
    if watches and "blixt" not in checkpoint:
        # What the scheduler watches is not in the file: it cannot step for an epoch whose batches are done.
        parts.counters.epoch_done |= parts.counters.epoch_closed


def _restore_optimizers(saved: list[Any], parts: Parts) -> None:
    if len(saved) != len(parts.optimizers):
        raise CheckpointError(
            f"The checkpoint has {len(saved)} optimizer(s) and this module {len(parts.optimizers)}. Let "
            "configure_optimizers return what it returned when the file was saved."
        )
    for index, (optimizer, state) in enumerate(zip(parts.optimizers, saved, strict=True)):
        try:
            parts.fabric.strategy.load_optimizer_state(parts.module, optimizer, state)
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"Optimizer {index} of the checkpoint does not fit {type(optimizer).__name__} of this "
                f"module: {error}. Give it the parameters it had when the file was saved."
            ) from error


def restore_position(checkpoint: dict[str, Any], parts: Parts) -> None:
    """The loader's position, half-finished epoch means and random numbers of this rank.

    With another number of processes than before, random numbers cannot be the same; loaders go on where all
    processes together were.
    """
    ranks = checkpoint.get("blixt", {}).get("ranks")
    if ranks is None:
        _position_by_count(checkpoint, parts)
        return
    # A loader was made meanwhile, for this epoch; the one that goes on was made in an earlier one.
    parts.counters.loaders_epoch = counters_of(checkpoint).get("loaders_epoch", parts.counters.epoch)
    rank, world_size = parts.fabric.global_rank, parts.fabric.world_size
    same_world = len(ranks) == world_size
    mine = ranks[rank] if same_world else ranks[0]
    if parts.loader is not None and mine["loader"] is not None:
        parts.loader.load_state_dict(mine["loader"])
        if not same_world and not parts.counters.epoch_closed:
            parts.counters.batch = parts.loader.delivered
        settle(parts.loader, mine["loader"], at_end=_at_end(parts))
    for loader, seeds in zip(parts.evaluation, mine.get("evaluation", ()), strict=False):
        reseed(loader.batches, seeds)
    parts.logbook.callback_metrics.update(mine.get("metrics", {}))
    restore_rng(mine["rng"], parts.fabric.device)
    if same_world:
        parts.logbook.load_state_dict(mine["logbook"])
        return
    merged = parts.logbook.merged([each["logbook"] for each in ranks])
    parts.logbook.load_state_dict(merged if rank == 0 else parts.logbook.merged([]))
    _seed_apart(rank)
    warnings.warn(
        f"The checkpoint was saved by {len(ranks)} process(es), now there are {world_size}: "
        "data goes on where it was, random numbers begin anew.",
        stacklevel=2,
    )


def _seed_apart(rank: int) -> None:
    """Random numbers of this rank's own, the same whenever the same file is resumed."""
    seed = (int(torch.randint(2**31, ()).item()) + 7919 * rank) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped


def _position_by_count(checkpoint: dict[str, Any], parts: Parts) -> None:
    """Files of others count batches, and keep the states of loaders that have one: skip to there.

    Of a shuffled loader the order is not in the file, so the rest of the epoch is a new draw.
    """
    counters, loader = parts.counters, parts.loader
    if loader is None or counters.epoch_done or counters.batch == 0:
        return
    state = loader.state_dict()
    inner = iter(loader_states_of(checkpoint))
    position = _at(state, counters.epoch, counters.batch, inner)
    loader.load_state_dict(position)
    settle(loader, position, at_end=_at_end(parts))
    if not counters.epoch_closed:
        warnings.warn(
            f"The checkpoint holds no random numbers and no order of samples: the epoch goes on after its "
            f"{counters.batch} batches, which is exact only for data that is not shuffled.",
            stacklevel=2,
        )


def _at_end(parts: Parts) -> bool:
    """Whether all batches of the epoch are done, but not what comes after them."""
    return parts.counters.epoch_closed and not parts.counters.epoch_done


def _at(state: dict[str, Any], epoch: int, batches: int, inner: Any) -> dict[str, Any]:
    moved = {**state, "epoch": epoch, "batches": batches}
    moved.pop("samples", None)
    if "loaders" in state:
        moved["loaders"] = [_at(each, epoch, batches, inner) for each in state["loaders"]]
    if "inner" in state:
        moved["inner"] = next(inner, state["inner"])
    return moved
