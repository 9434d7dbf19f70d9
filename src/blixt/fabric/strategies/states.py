"""Whole states into modules and optimizers whose tensors may be shards."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.checkpoint.lazy import LazyState
from blixt.fabric.errors import CheckpointError
from blixt.fabric.strategies.dtensors import is_dtensor


def load_full_module(module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
    """`module.load_state_dict`, with whole tensors cut to this process's shards where it has shards."""
    if isinstance(state, LazyState):
        return _load_lazy_module(module, state, strict)
    targets = dict(_tensors_of(module))
    if any(is_dtensor(target) for target in targets.values()):
        state = {name: _like(value, targets.get(name)) for name, value in state.items()}
    return module.load_state_dict(state, strict=strict)


def load_full_optimizer(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """`optimizer.load_state_dict` for numbered or named parameters, cut to shards where needed."""
    if isinstance(state, LazyState):
        state = _read_lazy_optimizer(module, optimizer, state)
    if any(isinstance(key, str) for group in state["param_groups"] for key in group["params"]):
        state = numbered(module, optimizer, state)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if any(is_dtensor(parameter) for parameter in parameters):
        order = [key for group in state["param_groups"] for key in group["params"]]
        by_key = dict(zip(order, parameters, strict=False))
        cut = {
            key: {name: _like_parameter(value, by_key.get(key)) for name, value in values.items()}
            for key, values in state["state"].items()
        }
        state = {**state, "state": cut}
    optimizer.load_state_dict(cast("dict[str, Any]", state))


def tensors_of(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """The tensors of an optimizer's state, which only its step changes."""
    for values in optimizer.state.values():
        yield from (value for value in values.values() if isinstance(value, torch.Tensor))


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


def named(module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """`optimizer.state_dict()` with the names of parameters in place of torch's numbers."""
    names = names_of(module)
    state = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    unnamed = sum(parameter not in names for parameter in parameters)
    if unnamed:
        raise CheckpointError(
            f"{unnamed} parameter(s) of the optimizer are not in the module, so they have no names to be "
            "saved under. Make the optimizer from module.parameters(), after the module was set up."
        )
    numbers = [key for group in state["param_groups"] for key in group["params"]]
    name = {key: names[parameter] for key, parameter in zip(numbers, parameters, strict=True)}
    groups = [{**group, "params": [name[key] for key in group["params"]]} for group in state["param_groups"]]
    return {"state": {name[key]: values for key, values in state["state"].items()}, "param_groups": groups}


def _load_lazy_module(module: nn.Module, state: LazyState, strict: bool) -> Any:
    """Read each process's shards straight into the module."""
    targets = module.state_dict()
    _refuse_other_shapes(targets, state)
    state.read_into({(name,): target for name, target in targets.items() if (name,) in state.entries})
    for name in [name for name in targets if name not in state]:
        del targets[name]
    for name in state:
        if name not in targets:
            targets[name] = state.values_only.get(name)
        elif not isinstance(targets[name], torch.Tensor):
            targets[name] = state.values_only[name]
    return module.load_state_dict(targets, strict=strict)


def _refuse_other_shapes(targets: Mapping[str, Any], state: LazyState) -> None:
    for name, target in targets.items():
        if (name,) in state.entries:
            size, _ = state.describe(state.entries[name,])
            if size != target.shape:
                raise CheckpointError(
                    f"The checkpoint {state.path} does not fit this module: {name} is {tuple(size)} there "
                    f"and {tuple(target.shape)} here."
                )


def _read_lazy_optimizer(module: nn.Module, optimizer: Optimizer, state: LazyState) -> dict[str, Any]:
    """The state under parameter names, with each process's shards of what is shaped like its parameter."""
    parameters = {name: parameter for parameter, name in names_of(module).items()}
    mine = {p for group in optimizer.param_groups for p in group["params"]}
    targets: dict[tuple[str, ...], torch.Tensor] = {}
    for keys, entry in state.entries.items():
        parameter = parameters.get(keys[1])
        if keys[0] == "state" and parameter in mine:
            size, dtype = state.describe(entry)
            like = parameter if parameter is not None and parameter.shape == size else None
            targets[keys] = (
                torch.empty(size, dtype=dtype)
                if like is None
                else torch.zeros_like(like.detach(), dtype=dtype)
            )
    state.read_into(targets)
    content: dict[str, Any] = {"state": {}, "param_groups": state.values_only["param_groups"]}
    for key, values in state.values_only.get("state", {}).items():
        content["state"][key] = dict(values)
    for keys, target in targets.items():
        content["state"].setdefault(keys[1], {})[keys[2]] = target
    return content


def _tensors_of(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    named: list[tuple[str, torch.Tensor]] = list(module.named_parameters(remove_duplicate=False))
    return [*named, *module.named_buffers(remove_duplicate=False)]


def _like_parameter(value: Any, parameter: Any) -> Any:
    fits = isinstance(value, torch.Tensor) and parameter is not None and value.shape == parameter.shape
    return _like(value, parameter) if fits else value


def _like(value: Any, target: Any) -> Any:
    """`value` cut like `target`; every process has the whole value, so nothing is sent."""
    if not is_dtensor(target) or is_dtensor(value) or not isinstance(value, torch.Tensor):
        return value
    from torch.distributed.tensor import distribute_tensor

    on_device = value.to(target.device)
    return distribute_tensor(on_device, target.device_mesh, target.placements, src_data_rank=None)
