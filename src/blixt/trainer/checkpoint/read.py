"""From a file, an URL or an open file to the content of a checkpoint, in today's layout."""

import io
import os
import pickle
import warnings
from collections.abc import Callable
from typing import IO, Any, cast

import torch

from blixt.fabric import CheckpointError, Fabric
from blixt.fabric.checkpoint import load_file
from blixt.fabric.checkpoint.io import is_url, local
from blixt.trainer.checkpoint.inert import load_inert, without_unread
from blixt.trainer.checkpoint.migrate import migrate_checkpoint
from blixt.trainer.checkpoint.weights import not_a_checkpoint

Source = str | os.PathLike[str] | IO[bytes]


def read(source: Source, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
    """The content of a Trainer's checkpoint, blixt's or Lightning's.

    Args:
        source: A path, an fsspec URL, a sharded checkpoint's directory, or an open binary file.
        map_location: Where tensors go, as `torch.load` has it; default the CPU.
        weights_only: False lets the file make objects, and so run code. Otherwise it holds tensors and plain
            values; objects in it are left out with a warning, and nothing in the file can run.

    Raises:
        CheckpointError: When there is no such file, it is torn, or it is something else.
    """
    location = "cpu" if map_location is None else map_location
    if isinstance(source, (str, os.PathLike)):
        if not is_url(source) and local(source).is_dir():
            from blixt.fabric.strategies.single import SingleDeviceStrategy

            return _checked(SingleDeviceStrategy().load_checkpoint(source, map_location=location), source)
        return _careful(
            lambda safe: load_file(source, weights_only=safe, map_location=location),
            source,
            weights_only,
            location,
        )
    return _from_file(source, location, weights_only)


def load(path: str | os.PathLike[str], fabric: Fabric, weights_only: bool | None = None) -> dict[str, Any]:
    """The same through the strategy and its `CheckpointIO`; call it on all ranks."""
    strategy = fabric.strategy
    return _careful(lambda safe: strategy.load_checkpoint(path, weights_only=safe), path, weights_only, "cpu")


def peek(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file holds, without reading its tensors, running anything or bringing it up to date.

    Raises:
        CheckpointError: When it is torn, or no dict.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torn, foreign, or with objects: the careful reader knows which
        content = load_inert(lambda: path, path, mmap=True)
    if not isinstance(content, dict):
        raise CheckpointError(not_a_checkpoint(content, path))
    return cast("dict[str, Any]", content)


def _careful(
    load_with: Callable[[bool], Any], source: str | os.PathLike[str], weights_only: bool | None, location: Any
) -> dict[str, Any]:
    """Load; where the safe loader refuses an object, read the rest without it."""
    try:
        content = _checked(load_with(weights_only is not False), source)
        return _with_objects(content) if weights_only is False else content
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"The checkpoint {source} is damaged: {error}. Use an older one.") from error
    except CheckpointError as error:
        if weights_only is False or not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        if not is_url(source) and local(source).is_dir():
            raise
    content = load_inert(lambda: _opened(source), source, map_location=location)
    return _checked(_without(content, source), source)


def _from_file(file: IO[bytes], location: Any, weights_only: bool | None) -> dict[str, Any]:
    name = getattr(file, "name", "the open file")
    start = file.tell()
    trusted = weights_only is False
    try:
        content = _checked(torch.load(file, map_location=location, weights_only=not trusted), name)
        return _with_objects(content) if trusted else content
    except pickle.UnpicklingError:
        if weights_only is False:
            raise

    def again() -> IO[bytes]:
        file.seek(start)
        return file

    return _checked(_without(load_inert(again, name, map_location=location), name), name)


def _with_objects(content: dict[str, Any]) -> dict[str, Any]:
    """With the hyper parameters that are no plain values; only for files that are trusted."""
    kept: dict[str, dict[str, bytes]] = content.get("blixt", {}).get("objects", {})
    for entry, objects in kept.items():
        for name, pickled in objects.items():
            try:
                content.setdefault(entry, {})[name] = pickle.loads(pickled)
            except Exception as error:  # whatever the object's own code raises
                warnings.warn(f"{entry}.{name} of the checkpoint cannot be made: {error}.", stacklevel=4)
    return content


def _without(content: Any, source: object) -> Any:
    return without_unread(cast("dict[str, Any]", content), source) if isinstance(content, dict) else content


def _opened(source: str | os.PathLike[str]) -> Any:
    if not is_url(source):
        return local(source)
    import fsspec  # pyright: ignore[reportMissingTypeStubs] - only URLs pay for it

    with cast("Any", fsspec).open(source, "rb") as file:
        return io.BytesIO(file.read())


def _checked(content: Any, source: object) -> dict[str, Any]:
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(not_a_checkpoint(cast("object", content), source))
    return migrate_checkpoint(cast("dict[str, Any]", content))[0]
