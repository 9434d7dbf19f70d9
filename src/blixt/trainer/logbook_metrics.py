"""What the logbook needs to know about torchmetrics objects, without importing torchmetrics."""

from typing import Any, cast

import torch
from torch import nn

from blixt.fabric import ConfigError, map_tensors


def is_metric(value: Any) -> bool:
    """Whether `value` is one metric that computes its own epoch value."""
    return hasattr(value, "compute") and hasattr(value, "reset") and not is_collection(value)


def is_collection(value: Any) -> bool:
    """Whether `value` holds several metrics under names."""
    return isinstance(value, nn.ModuleDict) and hasattr(value, "compute")


def items_of(values: Any) -> list[tuple[str, Any]]:
    """The names and values of a mapping or of a MetricCollection, whose prefix and suffix count."""
    if is_collection(values):
        # copy_state=False: the copies would only be dropped again, and compute groups share their states.
        return list(values.items(keep_base=False, copy_state=False))
    if not hasattr(values, "items"):
        fix = "Give a dict of names and values, or a MetricCollection"
        raise ConfigError("log_dict(dictionary)", type(values).__name__, "it has no names", fix)
    return list(values.items())


def attribute_of(name: str, metric: Any, modules: list[nn.Module], given: str | None) -> str:
    """Where a module holds `metric`: by the given name, else found by identity.

    Raises:
        ConfigError: When no module holds it: its state could not be saved, moved or reset.
    """
    if given is not None:
        return given
    known: list[str] = []
    for module in modules:
        for path, child in parts_of(module):
            if child is metric:
                return path
            if is_metric(child):
                known.append(path)
    reason = "the metric is no attribute of the module, so it cannot be moved, saved or reset"
    fix = (
        f"Set it in __init__, or name it with metric_attribute, one of {sorted(set(known))}"
        if known
        else "Set it in __init__"
    )
    raise ConfigError("log(name)", name, reason, fix)


def batch_value(metric: Any) -> Any:
    """What the metric's last `forward` gave for the batch; None after a bare `update`."""
    return getattr(metric, "_forward_cache", None)


def epoch_value(name: str, metric: Any) -> float:
    """What `compute` gives, as a number.

    Raises:
        ConfigError: When it is none.
    """
    value = metric.compute()
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value.detach())
    if isinstance(value, (int, float)):
        return float(value)
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
    reason = f"compute() of {type(metric).__name__} gives {shape}, not one number"
    raise ConfigError("log(name)", name, reason, "Compute it in on_*_epoch_end and log its parts")


def metric_states(module: nn.Module) -> dict[str, Any]:
    """The states of all metrics in `module` that have seen something, for a checkpoint within an epoch."""
    states: dict[str, Any] = {}
    for path, metric in parts_of(module):
        if is_metric(metric) and hasattr(metric, "metric_state") and getattr(metric, "_update_count", 0):
            states[path] = {"state": _detached(metric.metric_state), "updates": int(metric._update_count)}
    return states


def load_metric_states(module: nn.Module, states: dict[str, Any]) -> None:
    """Put back what `metric_states` took; metrics that are gone from the module are passed over."""
    for path, metric in parts_of(module):
        if path in states and is_metric(metric):
            kept = states[path]
            for name, value in kept["state"].items():
                setattr(metric, name, _to(value, metric.device))
            metric._update_count = kept["updates"]
            metric._computed = None


def parts_of(module: nn.Module) -> list[tuple[str, Any]]:
    """The paths of all submodules, and themselves."""
    return list(cast("Any", module).named_modules())


def _detached(state: dict[str, Any]) -> dict[str, Any]:
    return {name: map_tensors(value, lambda t: t.detach().cpu().clone()) for name, value in state.items()}


def _to(value: Any, device: torch.device) -> Any:
    return map_tensors(value, lambda tensor: tensor.to(device))
