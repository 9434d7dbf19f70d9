"""Modules made without filling their parameters, and how they get memory later."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _SkipInit(TorchFunctionMode):
    """Functions of `torch.nn.init` return their tensor as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def skip_initialization(device: torch.device) -> Generator[None]:
    """Tensors are made on `device`, and parameters hold whatever the memory held."""
    with torch.device(device), _SkipInit():
        yield


def parts_of(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every submodule with its name, the module itself first."""
    return list(cast("Any", module).named_modules())


def is_meta(module: nn.Module) -> bool:
    """Whether any parameter or buffer has no memory yet."""
    return any(tensor.is_meta for tensor in _own_tensors(module, recurse=True))


def materialize(module: nn.Module, device: torch.device) -> None:
    """Give parameters and buffers without memory their memory on `device`, and their initial values.

    Values come from `reset_parameters` of the submodule that owns them, as torch's own layers have it. A
    submodule without it keeps undefined values until a checkpoint is loaded; a warning names it.
    """
    owners = [(name, part) for name, part in parts_of(module) if _is_own_meta(part)]
    if not owners:
        return
    undefined: list[str] = []
    first: dict[int, nn.Parameter] = {}
    without_memory = [parameter for _, part in owners for parameter in part.parameters(recurse=False)]
    for name, part in owners:
        before = {key: id(parameter) for key, parameter in part.named_parameters(recurse=False)}
        part.to_empty(device=device, recurse=False)
        for key, identity in before.items():
            setattr(part, key, first.setdefault(identity, part.get_parameter(key)))  # tied ones stay tied
        reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
        if callable(reset):
            with torch.no_grad():
                reset()
        else:
            undefined.append(f"{name or 'the root'} ({type(part).__name__})")
    del without_memory  # kept until here, so that no other parameter could take the identity of one of them
    if undefined:
        warnings.warn(
            f"{undefined[0]} has no method reset_parameters(), so its values are undefined until a "
            f"checkpoint is loaded ({len(undefined)} such submodule(s)). Write one, or leave empty_init out.",
            stacklevel=3,
        )


def _is_own_meta(part: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in _own_tensors(part, recurse=False))


def _own_tensors(module: nn.Module, *, recurse: bool) -> list[torch.Tensor]:
    parameters = cast("list[torch.Tensor]", list(module.parameters(recurse=recurse)))
    return [*parameters, *module.buffers(recurse=recurse)]
