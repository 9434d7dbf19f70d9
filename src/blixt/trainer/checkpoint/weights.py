"""Weights from a checkpoint into a module, or a sentence that says why they do not fit."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn

from blixt.fabric import CheckpointError
from blixt.fabric.strategies import Strategy

_SHOWN = 4


def load_weights(
    module: nn.Module, checkpoint: Mapping[str, Any], strict: bool = True, strategy: Strategy | None = None
) -> None:
    """Load `checkpoint["state_dict"]`.

    Args:
        module: What gets the weights.
        checkpoint: The content of a file.
        strict: Refuse missing and unexpected names; otherwise they are told in a warning.
        strategy: How the module is shared among processes; None for a module of this process alone.

    Raises:
        CheckpointError: Naming what is missing, unexpected, or of another shape.
    """
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping):
        raise CheckpointError(not_a_checkpoint(checkpoint, "it"))
    weights = cast("Mapping[str, Any]", state)
    try:
        if strategy is not None:
            report = strategy.load_module_state(module, weights, strict)
        else:
            report = module.load_state_dict(weights, strict=strict)
    except (RuntimeError, KeyError) as error:
        difference = _difference(module, weights)
        if not difference:
            raise CheckpointError(f"The checkpoint does not fit this module: {error}") from error
        raise CheckpointError(
            f"The checkpoint is of another model than {type(module).__name__}: {difference}. Load it into "
            "the class it was saved from"
            + (", or allow other names with strict_loading=False." if "shape" not in difference else ".")
        ) from error
    if not strict:
        _tell(report)


def not_a_checkpoint(content: object, path: object) -> str:
    """A sentence about a file that holds something else than a Trainer's checkpoint."""
    if not isinstance(content, Mapping):
        return f"{path} holds a {type(content).__name__} and not a checkpoint of a Trainer."
    names = [str(name) for name in cast("Mapping[Any, Any]", content)]
    all_tensors = bool(names) and all(
        isinstance(item, torch.Tensor) for item in cast("Mapping[Any, Any]", content).values()
    )
    hint = (
        " These look like bare weights: use module.load_state_dict(torch.load(path))." if all_tensors else ""
    )
    return f"{path} is no checkpoint of a Trainer: it has no 'state_dict'. It holds {_some(names)}.{hint}"


def _difference(module: nn.Module, state: Mapping[str, Any]) -> str:
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(saved)} in the file and {tuple(own[name].shape)} in the module"
        for name in own
        if name in state
        and (saved := getattr(state[name], "shape", None)) is not None
        and isinstance(own[name], torch.Tensor)
        and saved != own[name].shape
    ]
    parts = [
        f"missing in the file: {_some(missing)}" if missing else "",
        f"unknown to the module: {_some(unexpected)}" if unexpected else "",
        f"another shape: {_some(shapes)}" if shapes else "",
    ]
    return "; ".join(part for part in parts if part)


def _tell(report: Any) -> None:
    missing: list[str] = list(getattr(report, "missing_keys", ()))
    unexpected: list[str] = list(getattr(report, "unexpected_keys", ()))
    for names, where in (
        (missing, "in the module but not in the checkpoint"),
        (unexpected, "in the checkpoint but not in the module"),
    ):
        if names:
            warnings.warn(f"Weights {where}: {_some(names)}.", stacklevel=3)


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (", ".join(found[:_SHOWN]) or "nothing") + more
