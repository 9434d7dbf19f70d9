"""Values as a safe loader accepts them: tensors, numbers, text, and containers of these."""

import argparse
import enum
import os
import pickle
import warnings
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import PurePath
from typing import Any, cast

import numpy as np
import torch

_LEAVES = (type(None), bool, int, float, complex, str, bytes, bytearray)
_TORCH_LEAVES = (torch.Tensor, torch.dtype, torch.device, torch.Size)
_told: set[tuple[str, ...]] = set()


class _LeftOut:
    """Stands for a value that cannot be made plain."""


_LEFT_OUT = _LeftOut()


def plain(values: Mapping[str, Any], owner: str, fix: str, *, keep: bool = False) -> dict[str, Any]:
    """`values` with every item made plain; what cannot be is left out, with one warning that names it.

    Paths become text, enums their values, numpy's numbers Python's, arrays lists, namespaces dicts.

    Args:
        values: By name.
        owner: Whose they are, for the warning.
        fix: What to do about it, for the warning.
        keep: Keep what cannot be made plain; readers then need `weights_only=False`.
    """
    strange: list[str] = []
    made = {name: _plain(value, str(name), strange, keep) for name, value in values.items()}
    if strange and (owner, *strange) not in _told:
        _told.add((owner, *strange))
        warnings.warn(f"{owner}: {', '.join(strange)}. {fix}.", stacklevel=3)
    return {name: value for name, value in made.items() if value is not _LEFT_OUT}


def objects_in(values: Mapping[str, Any]) -> dict[str, bytes]:
    """Those of `values` that `plain` leaves out or cuts, pickled: bytes that a safe loader does not open."""
    pickled: dict[str, bytes] = {}
    for name, value in values.items():
        strange: list[str] = []
        _plain(value, str(name), strange, keep=True)
        if strange:
            try:
                pickled[name] = pickle.dumps(value)
            except Exception:  # whatever its own class raises: lambdas, local classes, open files
                continue
    return pickled


def _plain(value: Any, where: str, strange: list[str], keep: bool) -> Any:
    if type(value) in _LEAVES or isinstance(value, _TORCH_LEAVES):
        return value
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return _container(value, where, strange, keep)
    simple = _simple(value)
    if simple is not _LEFT_OUT:
        return simple
    members = _members(value)
    if members is not None:
        return _plain(members, where, strange, keep)
    strange.append(f"{where} is a {_kind(value)}")
    return value if keep else _LEFT_OUT


def _container(value: Any, where: str, strange: list[str], keep: bool) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value)
        pairs = [
            (_plain(key, f"a key of {where}", strange, keep), _plain(item, f"{where}.{key}", strange, keep))
            for key, item in items.items()
        ]
        kept = [pair for pair in pairs if _LEFT_OUT not in (pair[0], _marker(pair[1]))]
        name = type(cast("Any", items)).__name__
        return {"Counter": Counter, "OrderedDict": OrderedDict}.get(name, dict)(dict(kept))
    parts = cast("Sequence[Any]", value)
    made = [_plain(item, f"{where}[{index}]", strange, keep) for index, item in enumerate(parts)]
    made = [item for item in made if item is not _LEFT_OUT]
    return tuple(made) if isinstance(value, tuple) else set(made) if isinstance(value, set) else made


def _marker(value: Any) -> Any:
    """`value` if it is the mark, else nothing: comparing tensors with it would compare elements."""
    return value if value is _LEFT_OUT else None


def _simple(value: Any) -> Any:
    """A leaf as one of the plain kinds, or the mark."""
    if isinstance(value, enum.Enum):
        return value.value if type(value.value) in _LEAVES else value.name
    if isinstance(value, (PurePath, os.PathLike)):
        return str(os.fspath(cast("os.PathLike[str]", value)))
    if isinstance(value, np.generic):
        return cast("Any", value).item()
    if isinstance(value, np.ndarray):
        return cast("Any", value).tolist()
    if isinstance(value, str):
        return "".join(value)  # of a subclass, whose own __str__ may say something else
    if isinstance(value, (int, float, bytes)):
        base: Any = int if isinstance(value, int) else float if isinstance(value, float) else bytes
        return base(value)
    return _LEFT_OUT


def _members(value: Any) -> Mapping[str, Any] | Sequence[Any] | None:
    """What a namespace or a configuration container holds."""
    if isinstance(value, argparse.Namespace):
        return vars(value)
    if type(value).__module__.partition(".")[0] == "omegaconf":
        omegaconf: Any = import_module("omegaconf")  # it is there: this is one of its objects
        return omegaconf.OmegaConf.to_container(value)
    return None


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"class ({value.__qualname__})"
    name = getattr(value, "__qualname__", None)
    return f"function ({name})" if callable(value) and name else type(value).__qualname__
