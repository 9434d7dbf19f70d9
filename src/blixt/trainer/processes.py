"""Calls of a trainer that run in processes made for them (spawn, fork), and what comes back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist

from blixt.fabric import Fabric
from blixt.fabric.launch import in_notebook
from blixt.trainer.logbook import Logbook

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

_STAYS = ("fabric", "logbook", "_hooks", "_run", "_train", "_evaluations", "optimizer_handles", "_module")


@dataclass
class Outcome:
    """What rank 0 tells the process that made it.

    Attributes:
        result: What the call returned.
        weights: Of the module, on the CPU.
        attributes: Of the trainer.
        metrics: What was logged: for callbacks, and for loggers.
        callbacks: The state of each callback, in order.
    """

    result: Any
    weights: dict[str, Any]
    attributes: dict[str, Any]
    metrics: tuple[dict[str, Any], dict[str, Any]]
    callbacks: list[dict[str, Any]]


def runs_elsewhere(trainer: "Trainer") -> bool:
    """Whether this process only waits while processes of its own making run the call."""
    if trainer.world_size == 1 or dist.is_initialized():
        return False
    how = trainer.fabric.strategy.launcher
    return how in ("spawn", "fork", "forkserver") or (how is None and in_notebook())


def run_elsewhere(trainer: "Trainer", verb: str, module: "Module", arguments: dict[str, Any]) -> Any:
    """Run `trainer.<verb>(module, **arguments)` there; weights, counters, metrics and states come back."""
    kept = {name: value for name, value in vars(trainer).items() if name not in _STAYS}
    launched = trainer.fabric.launch(_in_rank, type(trainer), kept, verb, module, arguments)
    outcome = cast("Outcome", launched)
    module.load_state_dict(outcome.weights)
    vars(trainer).update(outcome.attributes)
    trainer.counters = outcome.attributes["counters"]
    vars(trainer)["_module"] = module
    module.trainer = trainer
    trainer.logbook.callback_metrics.update(outcome.metrics[0])
    trainer.logbook.logged_metrics.update(outcome.metrics[1])
    for callback, state in zip(trainer.callbacks, outcome.callbacks, strict=False):
        if state:
            callback.load_state_dict(state)
    return outcome.result


def _in_rank(
    fabric: Fabric,
    kind: type["Trainer"],
    kept: dict[str, Any],
    verb: str,
    module: "Module",
    arguments: dict[str, Any],
) -> Outcome | None:
    trainer = object.__new__(kind)
    vars(trainer).update(kept)
    trainer.fabric = fabric
    trainer.logbook = Logbook(fabric)
    vars(trainer).update(_hooks=None, _run=None, _train=None, _module=None, _evaluations={})
    trainer.optimizer_handles = []
    result = getattr(trainer, verb)(module, **arguments)
    weights = fabric.strategy.module_state(module)
    if not fabric.is_global_zero:
        return None
    names = ("counters", "state", "should_stop", "received_sigterm", "ckpt_path", "_left_epoch")
    return Outcome(
        result,
        {name: _on_cpu(value) for name, value in weights.items()},
        {name: vars(trainer)[name] for name in names},
        (_plain(trainer.callback_metrics), _plain(trainer.logged_metrics)),
        [callback.state_dict() for callback in trainer.callbacks],
    )


def _plain(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: _on_cpu(value) for name, value in metrics.items()}


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value
