"""Read checkpoints that hold objects, without making the objects: nothing in a file can run.

torch's safe loader refuses a file for a single unknown class, even if it is only a remark in the hyper
parameters. Here every unknown class stands for a mark that keeps its arguments and does nothing; torch's safe
loader still does the reading, so there is no way from a file to code.
"""

import argparse
import pathlib
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from blixt.fabric import CheckpointError


class Unread:
    """Stands for an object of a class that was not loaded.

    Attributes:
        name: The class's full name, as the file has it.
        arguments: What it would have been made with.
        state: What it would have been given then.
    """

    name: str = ""
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *arguments: Any) -> "Unread":  # noqa: D102 - readers make it without __init__
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _empty_dict(*_: Any) -> dict[Any, Any]:
    return {}


# Classes whose objects are as good as plain values, by the names files have for them.
_PLAIN: dict[str, Callable[..., Any]] = {
    "argparse.Namespace": argparse.Namespace,
    "collections.defaultdict": _empty_dict,
    "pathlib.PosixPath": pathlib.PurePosixPath,
    "pathlib._local.PosixPath": pathlib.PurePosixPath,
    "pathlib.WindowsPath": pathlib.PureWindowsPath,
    **dict.fromkeys(
        [
            f"{package}.{module}.AttributeDict"
            for package in ("lightning", "pytorch_lightning", "lightning_fabric")
            for module in (
                "pytorch.utilities.parsing",
                "utilities.parsing",
                "fabric.utilities.data",
                "utilities.data",
            )
        ],
        dict,
    ),
}


def load_inert(
    open_file: Callable[[], Any], path: object, *, map_location: Any = "cpu", mmap: bool = False
) -> Any:
    """Read a file of `torch.save`; objects of unknown classes come as `Unread`.

    Args:
        open_file: Gives the file anew each time: a path or an open binary file.
        path: Its name, for errors.
        map_location: Where tensors go.
        mmap: Leave tensors on the disk until they are looked at; for paths only.

    Raises:
        CheckpointError: When the file is torn, too old for this, or asks for something that is never read.
    """
    try:
        names = get_unsafe_globals_in_checkpoint(open_file())
        stand_ins = [(_stand_in(name), name) for name in names]
        with safe_globals(cast("Any", stand_ins)):
            options = {"mmap": True} if mmap else {}
            return torch.load(open_file(), map_location=map_location, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        detail = str(error).partition("\n")[0].strip() or "it is not a file of torch.save"
        raise CheckpointError(
            f"The checkpoint {path} cannot be read without running code that it names: {detail} "
            "If you trust its author, load it with weights_only=False."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        detail = str(error).partition("\n")[0]
        raise CheckpointError(
            f"The checkpoint {path} is damaged or no checkpoint: {detail}. Use another."
        ) from error


def without_unread(content: Mapping[str, Any], path: object) -> dict[str, Any]:
    """`content` without its `Unread` objects, after a warning that says where they were.

    Raises:
        CheckpointError: When one of them is among weights or optimizer states.
    """
    found: list[str] = []
    cleaned = cast("dict[str, Any]", _cleaned(content, "", found))
    needed = [item for item in found if item.startswith(("state_dict", "optimizer_states"))]
    if needed:
        raise CheckpointError(
            f"The checkpoint {path} keeps {needed[0]} as an object of a class of its own. If you trust its "
            "author, load it with weights_only=False, which lets the file run code."
        )
    if found:
        warnings.warn(
            f"Not read from {path}: {', '.join(found[:5])}{' ...' if len(found) > 5 else ''}. Reading "
            "objects can run code; pass weights_only=False if you trust the file and need them.",
            stacklevel=3,
        )
    return cleaned


def _stand_in(name: str) -> Callable[..., Any]:
    return _PLAIN.get(name) or cast("Any", type(name.rpartition(".")[2], (Unread,), {"name": name}))


def _cleaned(value: Any, where: str, found: list[str]) -> Any:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value)
        kept: dict[Any, Any] = {
            _key(key): _cleaned(item, f"{where}.{_key(key)}".lstrip("."), found)
            for key, item in items.items()
            if not _is_unread(item, f"{where}.{_key(key)}".lstrip("."), found)
        }
        kind: Any = type(items)
        return kept if kind is dict else kind(kept)
    if isinstance(value, (list, tuple)):
        parts = [
            _cleaned(item, f"{where}[{index}]", found)
            for index, item in enumerate(cast("Sequence[Any]", value))
            if not _is_unread(item, f"{where}[{index}]", found)
        ]
        return parts if isinstance(value, list) else tuple(parts)
    return value


def _is_unread(item: Any, where: str, found: list[str]) -> bool:
    kind = item if isinstance(item, type) else type(item)
    unread = issubclass(kind, Unread)
    if unread:
        found.append(f"{where} ({kind.name})")
    return unread


def _key(key: Any) -> Any:
    """Old files name callbacks by their classes."""
    if isinstance(key, type) and issubclass(cast("type[Any]", key), Unread):
        return cast("type[Unread]", key).name.rpartition(".")[2]
    return cast("Any", key)
