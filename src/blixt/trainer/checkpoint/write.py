"""Everything a run needs to go on as if nothing had happened, in a dict shaped like Lightning's."""

import os
from collections.abc import Mapping
from typing import Any, cast

import blixt
from blixt.fabric import ResumableLoader, all_gather_objects, capture_rng
from blixt.trainer.checkpoint.migrate import LAYOUT, VERSION_KEY
from blixt.trainer.checkpoint.parts import Parts
from blixt.trainer.checkpoint.plain import objects_in, plain
from blixt.trainer.checkpoint.sections import loops_of
from blixt.trainer.combined_batches import seeds_of
from blixt.trainer.hparams import hparams_entries

_TENSOR_SECTIONS = ("state_dict", "optimizer_states", "loops", "blixt")
_UNSAFE = "Reading the file then needs weights_only=False; keep plain values and tensors instead"
_NOT_KEPT = (
    "load_from_checkpoint makes objects only with weights_only=False; else give it there as an argument, and "
    "to save_hyperparameters(ignore=...) to silence this"
)
OBJECTS = "objects"
"""Where our section keeps pickled hyper parameters."""


def save(
    parts: Parts, path: str | os.PathLike[str], weights_only: bool = False, storage_options: Any = None
) -> None:
    """Write the checkpoint to a path or an fsspec URL; call it on all ranks.

    Args:
        parts: Of the trainer.
        path: A file; a directory where the strategy's state format is "sharded".
        weights_only: Leave out what only resuming needs.
        storage_options: For the strategy's `CheckpointIO`.
    """
    content = dump(parts, weights_only)
    parts.fabric.strategy.save_checkpoint(path, content, storage_options=storage_options)


def dump(parts: Parts, weights_only: bool = False) -> dict[str, Any]:
    """The checkpoint; all ranks call it, because each has its own random numbers and loader position."""
    counters, strategy = parts.counters, parts.fabric.strategy
    position = _position(parts)
    checkpoint: dict[str, Any] = {
        "epoch": counters.epoch,
        "global_step": counters.global_step,
        VERSION_KEY: LAYOUT,
        "state_dict": strategy.module_state(parts.module),
        "loops": _loops(parts, position or {}),
        "blixt": {"version": blixt.__version__, "counters": counters.state_dict()},
    }
    if not weights_only:
        checkpoint |= _for_resuming(parts)
        checkpoint["blixt"]["ranks"] = all_gather_objects(_of_this_rank(parts, position))
    entries, objects = _hyper_parameters(parts)
    checkpoint |= entries
    if objects:
        checkpoint["blixt"][OBJECTS] = objects
    if parts.datamodule is not None:
        state = parts.hooks.of_data(parts.datamodule, "state_dict")()
        if state:
            checkpoint[type(parts.datamodule).__qualname__] = state
    if weights_only:
        parts.hooks.call_module("on_save_checkpoint", checkpoint)
    else:
        parts.hooks.call("on_save_checkpoint", checkpoint)
    return _made_plain(checkpoint)


def _position(parts: Parts) -> dict[str, Any] | None:
    """Where the data goes on: with the batch that runs now, if it has not been trained on yet."""
    loader, done = parts.loader, parts.counters.batch
    if loader is None:
        return None
    state = loader.state_dict()
    running = isinstance(loader, ResumableLoader) and loader.delivered == done + 1
    if running and "done" in state:
        return {**state, "batches": done, "done": state["done"] - state["done"] // (done + 1)}
    return state


def _loops(parts: Parts, position: Mapping[str, Any]) -> dict[str, Any]:
    return loops_of(
        parts.counters,
        manual=not parts.module.automatic_optimization,
        plateau=any(config.reduce_on_plateau for config in parts.schedulers),
        validation_batches=sum(loader.total or 0 for loader in parts.evaluation),
        scheduler_steps=_scheduler_steps(parts),
        loader_states=_inner_states(position),
    )


def _scheduler_steps(parts: Parts) -> tuple[int, int]:
    """Steps of all schedulers, in all and in this epoch, as far as they count them."""
    counters, total, current = parts.counters, 0, 0
    for config in parts.schedulers:
        last = getattr(config.scheduler, "last_epoch", 0)
        total += last if isinstance(last, int) else 0
        by_step = (counters.global_step - counters.epoch_began_at) // config.frequency
        current += by_step if config.interval == "step" else int(counters.epoch_closed)
    return total, current


def _inner_states(position: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The states of those loaders that keep their own, which other readers know what to do with."""
    found = [position["inner"]] if "inner" in position else []
    for loader in position.get("loaders", ()):
        found += _inner_states(loader)
    return found


def _for_resuming(parts: Parts) -> dict[str, Any]:
    """What weights alone do not need: optimizers, schedulers, callbacks, the scaler."""
    strategy, scaler = parts.fabric.strategy, parts.fabric.scaler
    states = {callback.state_key: callback.state_dict() for callback in parts.callbacks}
    section: dict[str, Any] = {
        "optimizer_states": [strategy.optimizer_state(parts.module, each) for each in parts.optimizers],
        "lr_schedulers": [config.scheduler.state_dict() for config in parts.schedulers],
        "callbacks": {key: state for key, state in states.items() if state},
    }
    if scaler is not None:
        section["MixedPrecision"] = scaler.state_dict()
    return section


def _hyper_parameters(parts: Parts) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of module and data module, and apart from them what is not plain, pickled."""
    entries: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for owner in (parts.module, parts.datamodule):
        found = hparams_entries(owner) if owner is not None else {}
        for name, value in found.items():
            if isinstance(value, Mapping):
                values = cast("Mapping[str, Any]", value)
                value = plain(values, f"Hyper parameters of {type(owner).__name__}", _NOT_KEPT)
                pickled = objects_in(values)
                objects |= {name: pickled} if pickled else {}
            entries[name] = value
    return entries, objects


def _of_this_rank(parts: Parts, position: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "rng": capture_rng(parts.fabric.device),
        "loader": position,
        "evaluation": [seeds_of(loader.batches) for loader in parts.evaluation],
        "logbook": parts.logbook.state_dict(),
        "metrics": {name: value.detach().cpu() for name, value in parts.logbook.callback_metrics.items()},
    }


def _made_plain(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What others put in, in values that a safe loader reads, as far as that goes."""
    for name in [name for name in checkpoint if name not in _TENSOR_SECTIONS]:
        checkpoint[name] = plain({name: checkpoint[name]}, "The checkpoint", _UNSAFE, keep=True)[name]
    checkpoint["blixt"] = plain(checkpoint["blixt"], "The data's position", _UNSAFE, keep=True)
    return checkpoint
