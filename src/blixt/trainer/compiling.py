"""`Trainer(compile=...)`: what computes is compiled; the loop, the hooks and `log` never are."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, cast

from torch import nn

from blixt.fabric import ConfigError
from blixt.trainer.module import Module

Compile = bool | Literal["blocks"] | Mapping[str, Any] | None
_FIX = 'Use True, "blocks", or a dict of torch.compile\'s options, with "blocks": True among them if you like'


def check_compile(given: Any) -> Compile:
    """`given` if it can be a value of `compile=`.

    Raises:
        ConfigError: Otherwise.
    """
    if given is None or isinstance(given, (bool, Mapping)) or given == "blocks":
        return cast("Compile", given)
    raise ConfigError("Trainer(compile)", given, "it says nothing about compiling", _FIX)


def compiled(module: Module, how: Compile) -> None:
    """Let torch.compile work on what `module` computes with, in place: names of weights stay.

    Args:
        module: With its parameters as they will be (sharded, converted).
        how: True compiles `forward`, or the direct children of a module without one. "blocks" compiles each
            of the layers that occur several times in a row, which takes less time because they share their
            code. A dict holds options of torch.compile.
    """
    if not how or getattr(module, "_blixt_compiled", False):
        return
    options: dict[str, Any] = dict(how) if isinstance(how, Mapping) else {}
    blocks = how == "blocks" or bool(options.pop("blocks", False))
    for target in repeated_blocks(module) if blocks else _whole(module):
        cast("Any", target).compile(**options)
    vars(module)["_blixt_compiled"] = True


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The members of every list of layers that holds several of one class.

    Raises:
        ConfigError: When there are none.
    """
    found: list[nn.Module] = []
    for container in module.modules():
        if isinstance(container, (nn.ModuleList, nn.Sequential, nn.ModuleDict)):
            children = list(container.children())
            often = Counter(type(child) for child in children)
            found += [child for child in children if often[type(child)] > 1 and any(child.children())]
    if not found:
        reason = f"{type(module).__name__} has no list of several layers of one class"
        raise ConfigError("Trainer(compile)", "blocks", reason, "Use compile=True")
    return found


def _whole(module: Module) -> list[nn.Module]:
    """What is called in a step: the module where it has a `forward`, else its children."""
    if type(module).forward is not nn.Module.forward and type(module).forward is not Module.forward:
        return [module]
    return [child for child in module.children() if type(child).forward is not nn.Module.forward]
