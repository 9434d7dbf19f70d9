"""How a module becomes one that precision, strategy and compiler have had their hands on."""

from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.compiled import unwrap_compiled
from blixt.fabric.errors import UsageError
from blixt.fabric.precision import Precision
from blixt.fabric.rank_zero import rank_zero_warn
from blixt.fabric.strategies import Strategy
from blixt.fabric.strategies.rebind import names_before, rebind
from blixt.fabric.tree import tensors
from blixt.fabric.wrappers import FabricModule


def prepare_module(
    module: nn.Module,
    optimizers: tuple[Optimizer, ...],
    *,
    strategy: Strategy,
    precision: Precision,
    device: torch.device,
    scaled: bool,
    move_to_device: bool,
    recompile: bool,
) -> tuple[FabricModule, list[Optimizer]]:
    """The module converted, moved or sharded, wrapped and compiled, in this order.

    Args:
        module: Any module, compiled or not.
        optimizers: Of its parameters; they follow parameters that become shards.
        strategy: Connected already.
        precision: Number formats.
        device: This process's.
        scaled: Whether a gradient scaler stands between loss and backward.
        move_to_device: Move parameters there; False leaves them where they are.
        recompile: Take the compilation off first and put it around what comes out.

    Returns:
        The wrapped module, and the optimizers as the strategy wants them.
    """
    inner, compilation = unwrap_compiled(module) if recompile else (module, None)
    if move_to_device:
        _warn_of_scattered_parameters(inner)
    names = names_before(inner)
    sharded = strategy.shard(precision.convert_module(inner), device, move_to_device=move_to_device)
    if {id(parameter) for parameter in names} != {id(parameter) for parameter in sharded.parameters()}:
        for optimizer in optimizers:
            rebind(optimizer, names, sharded)
    ready = strategy.setup_optimizers(sharded, list(optimizers), device) if optimizers else []
    forward_module = strategy.wrap(sharded, device)
    guarded = forward_module is not sharded or strategy.guards_forward
    if compilation is not None:
        forward_module = compilation(forward_module)
    check = _watch_backward if watches_backward(strategy, scaled) else None
    place = device if move_to_device else _device_of(sharded, device)
    wrapped = FabricModule(sharded, forward_module, precision, place, guarded=guarded, check_output=check)
    return wrapped, ready


def _device_of(module: nn.Module, default: torch.device) -> torch.device:
    first = next(module.parameters(), None)
    return default if first is None else first.device


def _warn_of_scattered_parameters(module: nn.Module) -> None:
    places = {parameter.device for parameter in module.parameters()}
    if len(places) > 1:
        named = ", ".join(sorted(map(str, places)))
        rank_zero_warn(
            f"The parameters of {type(module).__name__} are on several devices ({named}) and will all be "
            "moved to one. Pass move_to_device=False to leave them where they are."
        )


def watches_backward(strategy: Strategy, scaled: bool) -> bool:
    """Whether a bare `loss.backward()` would go wrong: it has to be scaled, or the strategy does it."""
    return scaled or type(strategy).backward is not Strategy.backward


class InsideBackward:
    """Says that `fabric.backward` is running."""

    active = False

    def __enter__(self) -> None:
        InsideBackward.active = True

    def __exit__(self, *_: object) -> None:
        InsideBackward.active = False


def _watch_backward(output: Any) -> None:
    for tensor in tensors(output):
        if tensor.requires_grad:
            cast("Any", tensor).register_hook(_refuse_bare_backward)


def _refuse_bare_backward(gradient: torch.Tensor) -> None:
    if not InsideBackward.active:
        raise UsageError(
            "loss.backward() was called, but this precision or strategy has to see it. "
            "Call fabric.backward(loss)."
        )
