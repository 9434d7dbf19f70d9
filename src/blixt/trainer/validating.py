"""Validation within a fit, and how it is broken off so that it can run again as if it had never begun."""

import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from blixt.fabric import capture_rng, map_tensors, restore_rng
from blixt.trainer.evaluate import BrokenOffError
from blixt.trainer.logbook_metrics import is_metric, parts_of

if TYPE_CHECKING:
    from blixt.trainer.fit import Run

_BEFORE_STEPS = (
    *("on_validation_model_eval", "on_validation_start", "on_validation_epoch_start"),
    "on_validation_batch_start",
)
"""Where others change weights for a validation; blixt's own callbacks know of validations that break off."""


def validate(run: "Run", boundary: bool) -> bool:
    """Run the validation of this fit; whether it was broken off, because a signal asked for the end.

    The checkpoint that follows is one from before the validation, which then runs again as a whole.

    Args:
        run: The fit.
        boundary: No gradients are gathered that a checkpoint would lose.
    """
    assert run.evaluation is not None
    counters = run.counters
    weights = _Weights(run)
    leaves = partial(_leaves, run, weights) if boundary else None
    if leaves is not None and leaves(0):
        return True
    if boundary:
        run.module.on_validation_model_zero_grad()
    evaluation = run.evaluation()
    if evaluation is not None:
        before = _Before(run.module, run.module.device)
        try:
            evaluation.run(counters.epoch, row_step=counters.optimizer_steps - run.lag, leaves=leaves)
        except BrokenOffError:
            before.put_back()
            return True
        counters.validations += 1
        counters.validated_at = counters.batches
    run.validated_at = time.monotonic()
    return False


def _leaves(run: "Run", weights: "_Weights", done: int) -> bool:
    """Whether all processes leave after `done` batches of this validation; wishes to stop let it end.

    So do hooks that validate other weights than training's: only they know how to put those back.
    """
    stop = run.stop
    if stop.requested is None and run.alone:
        return False
    return stop.due(run.counters.batches, done) and stop.by_signal and not weights.changed


class _Weights:
    """Tells whether hooks of the user's validate other weights, such as their average."""

    def __init__(self, run: "Run") -> None:
        owners = (owner for event in _BEFORE_STEPS for owner in run.hooks.owners(event))
        asked = any(not type(owner).__module__.startswith("blixt.") for owner in owners)
        # The same tensors later: strategies that shard put others into the module while it runs.
        self._tensors: list[Any] = (
            [p for p in run.module.parameters() if p.is_floating_point()] if asked else []
        )
        self._size = self._norm()

    @property
    def changed(self) -> bool:
        """Whether they are others now; waits for the device."""
        return not torch.equal(self._size, self._norm())

    @torch.no_grad()
    def _norm(self) -> torch.Tensor:
        local = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in self._tensors]
        return torch.nn.utils.get_total_norm(local)


class _Before:
    """What a validation changes and a checkpoint keeps: random numbers, and the states of metrics."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._device = device
        self._numbers = capture_rng(device)
        found = ((metric, getattr(metric, "_update_count", None)) for _, metric in parts_of(module))
        self._counts = [(metric, count) for metric, count in found if count is not None and is_metric(metric)]
        self._states = [_copy(metric.metric_state) if count else None for metric, count in self._counts]

    def put_back(self) -> None:
        """As if nothing had run."""
        restore_rng(self._numbers, self._device)
        for (metric, count), state in zip(self._counts, self._states, strict=True):
            if metric._update_count == count:
                continue
            metric.reset()
            for name, value in (state or {}).items():
                setattr(metric, name, value)
            metric._update_count = count


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """Metrics add to their tensors in place, and to their lists at the end."""
    return {
        name: list(cast("list[Any]", value))
        if isinstance(value, list)
        else map_tensors(value, lambda tensor: tensor.detach().clone())
        for name, value in state.items()
    }
