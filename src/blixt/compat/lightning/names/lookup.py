"""From one of Lightning's dotted names to the object of blixt's that stands for it."""

from functools import cache
from importlib import import_module

from blixt.compat.lightning.names.fabric import FABRIC
from blixt.compat.lightning.names.pytorch import PYTORCH
from blixt.compat.lightning.names.targets import COMMANDS, IN_FABRIC, TARGETS, TOP

_ROOTS = {
    "lightning.pytorch": PYTORCH,
    "pytorch_lightning": PYTORCH,
    "lightning.fabric": FABRIC,
    "lightning_fabric": FABRIC,
}


def _split(module: str) -> tuple[dict[str, str] | None, str]:
    """The table a module belongs to, and its path within; (None, "") for what is nobody's."""
    for root, table in _ROOTS.items():
        if module == root or module.startswith(f"{root}."):
            return table, module[len(root) + 1 :]
    return None, ""


def is_module(module: str) -> bool:
    """Whether Lightning has a public module of this name that blixt gives."""
    table, path = _split(module)
    return module == "lightning" or (table is not None and path in table)


@cache
def _entries(module: str) -> dict[str, str]:
    """The module's public names, each with its target where that is not the usual one."""
    if module == "lightning":
        return {name: target for name, _, target in (word.partition("=") for word in TOP.split())}
    table, path = _split(module)
    words = [] if table is None else table.get(path, "").split()
    return {name: target for name, _, target in (word.partition("=") for word in words)}


def public_names(module: str) -> list[str]:
    """What `from module import *` gives."""
    return [name for name in _entries(module) if not name.startswith("_")]


@cache
def submodules(module: str) -> frozenset[str]:
    """The names of the modules right below one."""
    if module == "lightning":
        return frozenset({"pytorch", "fabric"})
    table, path = _split(module)
    if table is None:
        return frozenset()
    head = f"{path}." if path else ""
    return frozenset(key[len(head) :].partition(".")[0] for key in table if key and key.startswith(head)) - {
        ""
    }


def target(module: str, name: str) -> str | None:
    """Where blixt keeps a name of a module, as "file:name"; None when the module has no such name."""
    entries = _entries(module)
    if name not in entries:
        return None
    in_fabric = name in IN_FABRIC or _split(module)[0] is FABRIC
    return entries[name] or TARGETS.get(name) or f"blixt.{'fabric' if in_fabric else 'trainer'}:{name}"


def load(module: str, name: str, target: str) -> object:
    """The object itself.

    Raises:
        ImportError: When blixt does not have it, or it needs a library that is not installed.
    """
    file, _, attribute = target.partition(":")
    try:
        return getattr(import_module(file), attribute)
    except AttributeError:
        raise ImportError(f"{module}.{name}: blixt has no {target.replace(':', '.')}.", name=module) from None


def command(module: str) -> str | None:
    """What `python -m module` runs, as "file:function"; None when that is nothing."""
    table, path = _split(module)
    if table is None:
        return None
    return COMMANDS.get(("fabric." if table is FABRIC else "pytorch.") + path)
