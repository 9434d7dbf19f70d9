"""Which submodules become units: gathered, freed and recomputed as one."""

from collections import Counter
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any, Literal, cast

from torch import nn

from blixt.fabric.errors import ConfigError

ModuleClasses = type[nn.Module] | Iterable[type[nn.Module]]
Policy = Literal["blocks"] | int | ModuleClasses | Callable[..., bool] | None
"""What chooses units: "blocks" (repeated elements of a ModuleList or Sequential that have children), a least
number of parameters, module classes, a function of a module (or of FSDP1's three arguments), or None for no
unit below the root."""


def choose_units(module: nn.Module, policy: Policy, argument: str = "auto_wrap_policy") -> list[nn.Module]:
    """Submodules that `policy` chooses, inner ones before those around them, never the root.

    A submodule that shares a parameter with the world outside of it is left to what is around both.
    """
    wanted = _test_of(policy, module, argument)
    units = [part for part in _bottom_up(module) if part is not module and _runs(part) and wanted(part)]
    everywhere = Counter(id(p) for part in module.modules() for p in part.parameters(recurse=False))
    return [unit for unit in units if not _shares(unit, everywhere)]


def topmost(module: nn.Module) -> list[nn.Module]:
    """The modules with a forward pass that stand directly below `module`, or in a container there."""
    found: list[nn.Module] = []
    for child in module.children():
        found += [child] if _runs(child) else topmost(child)
    return found


def _test_of(policy: Policy, root: nn.Module, argument: str) -> Callable[[nn.Module], bool]:
    if policy is None:
        return lambda part: False
    if policy == "blocks":
        blocks = _blocks(root)
        return lambda part: id(part) in blocks
    if isinstance(policy, int) and not isinstance(policy, bool):
        return _large_enough(policy)
    classes = _classes_of(policy)
    if classes:
        return lambda part: isinstance(part, classes)
    if callable(policy):
        return _function(cast("Callable[..., bool]", policy))
    reason = "it chooses no modules"
    fix = "Give module classes, a number of parameters, a function of a module, 'blocks' or None"
    raise ConfigError(argument, policy, reason, fix)


def _classes_of(policy: Any) -> tuple[type[nn.Module], ...]:
    """The classes that `policy` is made of; torch's ModuleWrapPolicy holds some as well."""
    found = getattr(policy, "_module_classes", policy)
    found = [found] if isinstance(found, type) else found
    if not isinstance(found, Iterable) or isinstance(found, str):
        return ()
    classes: list[Any] = list(cast("Iterable[Any]", found))
    return tuple(classes) if all(isinstance(c, type) and issubclass(c, nn.Module) for c in classes) else ()


def _large_enough(least: int) -> Callable[[nn.Module], bool]:
    """Whether a module has `least` parameters that no chosen module inside it has; asked bottom-up."""
    taken: set[int] = set()

    def test(part: nn.Module) -> bool:
        own = [p for p in part.parameters() if id(p) not in taken]
        if sum(p.numel() for p in own) < least:
            return False
        taken.update(id(p) for p in own)
        return True

    return test


def _function(policy: Callable[..., bool]) -> Callable[[nn.Module], bool]:
    required = [p for p in signature(policy).parameters.values() if p.default is p.empty]
    if len(required) < 3:
        return lambda part: bool(policy(part))

    def as_in_fsdp1(part: nn.Module) -> bool:
        size = sum(parameter.numel() for parameter in part.parameters())
        return bool(policy(module=part, recurse=False, nonwrapped_numel=size))

    return as_in_fsdp1


def _blocks(root: nn.Module) -> set[int]:
    blocks: set[int] = set()
    for holder in root.modules():
        if isinstance(holder, (nn.ModuleList, nn.Sequential)):
            kinds = Counter(type(child) for child in holder)
            blocks |= {id(c) for c in holder if kinds[type(c)] > 1 and any(True for _ in c.children())}
    return blocks


def _bottom_up(module: nn.Module) -> list[nn.Module]:
    seen: set[int] = set()
    order: list[nn.Module] = []

    def visit(part: nn.Module) -> None:
        if id(part) not in seen:
            seen.add(id(part))
            for child in part.children():
                visit(child)
            order.append(part)

    visit(module)
    return order


def _runs(part: nn.Module) -> bool:
    """Whether the module has a forward pass; containers such as ModuleList have none."""
    return type(part).forward is not nn.Module.forward


def _shares(unit: nn.Module, everywhere: Counter[int]) -> bool:
    inside = Counter(id(p) for part in unit.modules() for p in part.parameters(recurse=False))
    return any(everywhere[key] != count for key, count in inside.items())
