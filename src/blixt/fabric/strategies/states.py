"""Whole states into modules and optimizers whose tensors may be shards."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from blixt.fabric.errors import CheckpointError


def load_full_module(module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
    """`module.load_state_dict`, with whole tensors cut to this process's shards where parameters are shards."""
    targets = dict(_tensors_of(module))
    if any(isinstance(target, DTensor) for target in targets.values()):
        state = {name: _like(value, targets.get(name)) for name, value in state.items()}
    return module.load_state_dict(state, strict=strict)


def load_full_optimizer(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """`optimizer.load_state_dict` for a state with numbered or named parameters, cut to shards where needed."""
    if any(isinstance(key, str) for group in state["param_groups"] for key in group["params"]):
        state = numbered(module, optimizer, state)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if any(isinstance(parameter, DTensor) for parameter in parameters):
        order = [key for group in state["param_groups"] for key in group["params"]]
        by_key = dict(zip(order, parameters, strict=False))
        cut = {
            key: {name: _like_parameter(value, by_key.get(key)) for name, value in values.items()}
            for key, values in state["state"].items()
        }
        state = {**state, "state": cut}
    optimizer.load_state_dict(cast("dict[str, Any]", state))


def names_of(module: nn.Module) -> dict[nn.Parameter, str]:
    """The first name of every parameter; shared parameters have one."""
    return {parameter: name for name, parameter in module.named_parameters()}


def numbered(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state whose parameters are named, with the numbers that `optimizer` gives them."""
    names = names_of(module)
    order = [names.get(p) for group in optimizer.param_groups for p in group["params"]]
    number = {name: index for index, name in enumerate(order) if name is not None}
    saved = [key for group in state["param_groups"] for key in group["params"]]
    missing = [key for key in saved if key not in number]
    if missing:
        raise CheckpointError(
            f"The checkpoint's optimizer trains {missing[0]!r} and {len(missing) - 1} more parameter(s) that "
            "this optimizer does not have. Give the optimizer the same parameters as when it was saved."
        )
    groups = [
        {**group, "params": [number[key] for key in group["params"]]} for group in state["param_groups"]
    ]
    return {"state": {number[key]: values for key, values in state["state"].items()}, "param_groups": groups}


def whole(value: Any) -> Any:
    """`value` with shards put together on the CPU (a collective); other tensors as they are."""
    if isinstance(value, DTensor):
        return cast("Any", value).full_tensor().cpu()
    return value


def _tensors_of(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    named: list[tuple[str, torch.Tensor]] = list(module.named_parameters(remove_duplicate=False))
    return [*named, *module.named_buffers(remove_duplicate=False)]


def _like_parameter(value: Any, parameter: Any) -> Any:
    fits = isinstance(value, torch.Tensor) and parameter is not None and value.shape == parameter.shape
    return _like(value, parameter) if fits else value


def _like(value: Any, target: Any) -> Any:
    """`value` cut like `target`; every process has the whole value, so nothing is sent."""
    if not isinstance(target, DTensor) or isinstance(value, DTensor) or not isinstance(value, torch.Tensor):
        return value
    on_device = value.to(target.device)
    return distribute_tensor(on_device, target.device_mesh, target.placements, src_data_rank=None)
