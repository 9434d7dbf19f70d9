"""Questions that libraries on top of Lightning ask of objects."""

import inspect
import pickle
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, cast

import torch
from torch import nn

from blixt.trainer import Callback, DataModule, Module


def is_picklable(obj: object) -> bool:
    """Whether it can be pickled."""
    try:
        pickle.dumps(obj)
    except (pickle.PickleError, AttributeError, RuntimeError, TypeError):
        return False
    return True


def is_overridden(method_name: str, instance: object = None, parent: type | None = None) -> bool:
    """Whether an object has its own version of a method of its blixt base class.

    Args:
        method_name: Of the method.
        instance: A module, data module or callback.
        parent: The class to compare with; default the one of blixt's that fits.

    Raises:
        ValueError: When `parent` is left out and the object is none of these.
    """
    if instance is None:
        return False
    if parent is None:
        parent = next((base for base in (Module, DataModule, Callback) if isinstance(instance, base)), None)
        if parent is None:
            raise ValueError("Expected a parent")
    own = getattr(type(instance), method_name, None) or getattr(instance, method_name, None)
    if own is None:
        return False
    known = getattr(parent, method_name, None)
    if known is None:
        raise ValueError("The parent should define the method")
    return inspect.unwrap(getattr(instance, method_name)).__code__ is not inspect.unwrap(known).__code__


def is_param_in_hook_signature(
    hook_fx: Callable[..., Any], param: str, explicit: bool = False, min_args: int | None = None
) -> bool:
    """Whether a hook takes a parameter: by name, by `*args` unless `explicit`, or by having `min_args`."""
    spec = inspect.getfullargspec(inspect.unwrap(hook_fx))
    names = (
        spec.args[1:] if inspect.ismethod(hook_fx) or (spec.args and spec.args[0] == "self") else spec.args
    )
    return (
        param in names
        or (not explicit and spec.varargs is not None)
        or (min_args is not None and len(names) >= min_args)
    )


def lightning_hasattr(model: Module, attribute: str) -> bool:
    """Whether a module, its hyper-parameters or its data module have an attribute."""
    return bool(_holders(model, attribute))


def lightning_getattr(model: Module, attribute: str) -> Any:
    """The attribute, from the last of module, hyper-parameters and data module that has it.

    Raises:
        AttributeError: When none has.
    """
    holder = _last_holder(model, attribute)
    return (
        cast("Mapping[str, Any]", holder)[attribute]
        if isinstance(holder, Mapping)
        else getattr(holder, attribute)
    )


def lightning_setattr(model: Module, attribute: str, value: Any) -> None:
    """Set the attribute wherever there is one of the name.

    Raises:
        AttributeError: When none has it.
    """
    _last_holder(model, attribute)
    for holder in _holders(model, attribute):
        if isinstance(holder, dict):
            holder[attribute] = value
        else:
            setattr(holder, attribute, value)


def _last_holder(model: Module, attribute: str) -> Any:
    holders = _holders(model, attribute)
    if not holders:
        raise AttributeError(f"{attribute} is neither in the module, nor its hparams, nor its data module.")
    return holders[-1]


def _holders(model: Module, attribute: str) -> list[Any]:
    try:
        datamodule = model.trainer.datamodule
    except RuntimeError:
        datamodule = None
    owners: list[Any] = [model, datamodule]
    found: list[Any] = [model] if hasattr(model, attribute) else []
    found += [owner.hparams for owner in owners if attribute in getattr(owner, "hparams", ())]
    return [*found, datamodule] if hasattr(datamodule, attribute) else found


def get_init_args(frame: FrameType) -> dict[str, Any]:
    """The arguments that the `__init__` of a frame was called with, its `**kwargs` spread out.

    Args:
        frame: Of the `__init__` itself; anything else has no arguments.
    """
    values = frame.f_locals
    if "__class__" not in values or frame.f_code.co_name != "__init__":
        return {}
    parameters = list(inspect.signature(values["__class__"].__init__).parameters.values())[1:]
    found: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= values[parameter.name]
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[parameter.name] = values[parameter.name]
    return found


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """The names of parameters that are one tensor, in groups."""
    names: dict[torch.Tensor, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return [group for group in names.values() if len(group) > 1]


def set_shared_parameters(module: nn.Module, shared_params: list[list[str]]) -> nn.Module:
    """Make each group one tensor again: the first of its names."""
    for first, *others in shared_params:
        value = module.get_parameter(first)
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, value)
    return module


def from_compiled(model: nn.Module) -> nn.Module:
    """The module under `torch.compile`'s wrapper, and without its compiled forward."""
    return to_uncompiled(model)


def to_uncompiled(model: nn.Module) -> nn.Module:
    """The module under `torch.compile`'s wrapper."""
    return getattr(model, "_orig_mod", model)


def do_nothing_closure() -> None:
    """A closure for optimizers that want one when nothing is to be computed."""


def _norm(tensor: torch.Tensor, order: float) -> torch.Tensor:
    return torch.linalg.vector_norm(tensor, order)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - untyped


def grad_norm(
    module: nn.Module, norm_type: float | int | str, group_separator: str = "/"
) -> dict[str, float]:
    """The norm of each parameter's gradient and of all together, ready for `log_dict`.

    Args:
        module: With gradients.
        norm_type: A positive number, or "inf".
        group_separator: Between a name's parts, as the logger groups them.

    Returns:
        Names such as `grad_2.0_norm/layer.weight` and `grad_2.0_norm_total`, each with a scalar tensor.

    Raises:
        ValueError: When `norm_type` is not positive.
    """
    order = float(norm_type)
    if order <= 0:
        raise ValueError(f"`norm_type` must be a positive number or 'inf' (infinity norm). Got {order}.")
    norms: dict[str, Any] = {
        f"grad_{order}_norm{group_separator}{name}": _norm(parameter.grad, order)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        norms[f"grad_{order}_norm_total"] = _norm(torch.stack(list(norms.values())), order)
    return norms
