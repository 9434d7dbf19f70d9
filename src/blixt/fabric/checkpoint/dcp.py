"""Directories that many processes write together and any number of processes can read."""

import os
import shutil
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist

from blixt.fabric.checkpoint.io import is_url, load_file, local, save_file
from blixt.fabric.checkpoint.lazy import LazyState
from blixt.fabric.checkpoint.sharded import MARK, divide, merge
from blixt.fabric.checkpoint.together import first_does, several
from blixt.fabric.errors import CheckpointError

PathLike = str | os.PathLike[str]
META_FILE = "meta.pt"
INDEX_FILE = ".metadata"


def save_directory(path: PathLike, content: Mapping[str, Any], *, storage_options: Any = None) -> None:
    """Write a sharded checkpoint; all processes call it, and it is there on all when it returns.

    On disks, which all processes must share, the directory is written under another name and takes its own
    when it is complete. At a URL `meta.pt`, without which it counts as torn, is written last.
    """
    import torch.distributed.checkpoint as dcp

    tensors, rest = prepare(content)
    place = working_place(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a single process that saves alone, on purpose
            cast("Any", dcp).save(
                tensors, storage_writer=make_writer(place, storage_options), no_dist=not several()
            )
    except (OSError, RuntimeError, dcp.api.CheckpointException) as error:
        raise CheckpointError(f"The checkpoint {path} could not be written: {error}.") from error
    first_does(lambda: finish(place, path, rest, storage_options))


def prepare(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """This process's tensors, and what of the content is for `meta.pt`; a collective."""
    tensors, rest = divide(content)
    return tensors, _merged(rest)


def working_place(path: PathLike) -> PathLike:
    """Where the processes write until the checkpoint is complete; the same on all."""
    if is_url(path):
        return path
    target = local(path)

    def choose() -> str:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"The checkpoint {path} could not be written: {error}.") from error
        for stale in target.parent.glob(f".{target.name}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        return uuid.uuid4().hex[:8]

    return target.with_name(f".{target.name}.{first_does(choose)}.partial")


def make_writer(place: PathLike, storage_options: Any = None) -> Any:
    """torch's writer for a directory or a URL."""
    from torch.distributed.checkpoint import FileSystemWriter

    if is_url(place):
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

        return cast("Any", FsspecWriter)(os.fspath(place), **(storage_options or {}))
    return FileSystemWriter(place)


def finish(place: PathLike, path: PathLike, rest: Mapping[str, Any], storage_options: Any = None) -> None:
    """Add what is not sharded, which makes the checkpoint complete, and give it its name."""
    if is_url(place):
        return save_file(f"{place}/{META_FILE}", dict(rest), storage_options=storage_options)
    partial, target = local(place), local(path)
    save_file(partial / META_FILE, dict(rest))
    try:
        if target.exists():
            old = partial.with_suffix(".old")
            os.rename(target, old)
            os.rename(partial, target)
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        else:
            os.rename(partial, target)
    except OSError as error:
        raise CheckpointError(f"The checkpoint {target} could not take its name: {error}.") from error


def is_complete(path: PathLike) -> bool:
    """Whether there is a checkpoint at `path` that was written to its end, a file or a directory."""
    if is_url(path):
        from blixt.fabric.checkpoint.io import filesystem

        files, inner = filesystem(os.fspath(path), None)
        return bool(files.isfile(inner) or files.isfile(f"{inner}/{META_FILE}"))
    target = local(path)
    return target.is_file() or _complete_directory(target)


def is_directory_checkpoint(path: PathLike) -> bool:
    """Whether `path` is, or may be, a sharded checkpoint."""
    if is_url(path):
        from blixt.fabric.checkpoint.io import filesystem

        files, inner = filesystem(os.fspath(path), None)
        return bool(files.isdir(inner))
    return local(path).is_dir() or (not local(path).exists() and _set_aside(local(path)) is not None)


def load_directory(path: PathLike, *, weights_only: bool = True) -> dict[str, Any]:
    """The content of a sharded checkpoint; its states come as `LazyState`s, which read when asked."""
    recover(path)
    if not is_complete(path):
        raise CheckpointError(
            f"{path} holds no complete checkpoint: {META_FILE} is missing, so its writer was stopped. "
            "Use an older one."
        )
    rest: Any = load_file(_inside(path, META_FILE), weights_only=weights_only)
    return _with_states(rest, path)


def recover(path: PathLike) -> None:
    """Give the previous checkpoint its name back, if its replacement was stopped between two renamings."""
    if not is_url(path) and not local(path).exists():
        aside = _set_aside(local(path))
        if aside is not None:
            os.rename(aside, local(path))


def _set_aside(target: Path) -> Path | None:
    found = [old for old in target.parent.glob(f".{target.name}.*.old") if _complete_directory(old)]
    return found[0] if found else None


def _complete_directory(folder: Path) -> bool:
    return (folder / INDEX_FILE).is_file() and (folder / META_FILE).is_file()


def _inside(path: PathLike, name: str) -> PathLike:
    return f"{path}/{name}" if is_url(path) else local(path) / name


def _with_states(item: Any, path: PathLike) -> Any:
    if isinstance(item, dict):
        content = cast("dict[Any, Any]", item)
        if MARK in content:
            return LazyState(path, tuple(content[MARK]), content.get("values", {}))
        return {key: _with_states(value, path) for key, value in content.items()}
    if isinstance(item, list):
        return [_with_states(value, path) for value in cast("list[Any]", item)]
    return item


def _merged(rest: dict[str, Any]) -> dict[str, Any]:
    """Values of sharded states from all processes; of everything else, rank 0's."""
    if not several():
        return rest
    states: dict[str, Any] = {}
    _collect(rest, "", states)
    box: list[Any] = [None] * dist.get_world_size()
    cast("Any", dist).all_gather_object(box, states)
    return _replace(rest, "", {name: merge([part[name] for part in box if name in part]) for name in states})


def _collect(item: Any, place: str, found: dict[str, Any]) -> None:
    if isinstance(item, dict):
        content = cast("dict[Any, Any]", item)
        if MARK in content:
            found[place] = content
            return
        for key, value in content.items():
            _collect(value, f"{place}/{key}", found)
    elif isinstance(item, list):
        for index, value in enumerate(cast("list[Any]", item)):
            _collect(value, f"{place}/{index}", found)


def _replace(item: Any, place: str, merged: Mapping[str, Any]) -> Any:
    if place in merged:
        return merged[place]
    if isinstance(item, dict):
        pairs = cast("dict[Any, Any]", item).items()
        return {key: _replace(value, f"{place}/{key}", merged) for key, value in pairs}
    if isinstance(item, list):
        items = enumerate(cast("list[Any]", item))
        return [_replace(value, f"{place}/{index}", merged) for index, value in items]
    return item
