"""One file, written whole or not at all, on this machine's disks or at an fsspec URL."""

import io
import os
import pickle
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch

from blixt.fabric.errors import CheckpointError, CheckpointNotFoundError, ConfigError

PathLike = str | os.PathLike[str]
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: PathLike) -> bool:
    """Whether `path` names something that fsspec has to open, such as "s3://bucket/last.ckpt"."""
    return isinstance(path, str) and bool(_URL.match(path)) and not path.startswith("file://")


def local(path: PathLike) -> Path:
    """`path` on this machine, "file://" taken off."""
    return Path(os.fspath(path).removeprefix("file://"))


def save_file(path: PathLike, content: Any, *, storage_options: Any = None) -> None:
    """Write `content` with `torch.save` so that `path` never holds half a checkpoint.

    On a disk the bytes go to a neighbour of `path`, reach the disk, and only then take the name. At a URL
    the object appears when its upload is finished, as object stores do it.
    """
    if is_url(path):
        return _save_url(cast("str", path), content, storage_options)
    if storage_options is not None:
        reason = "a file of this machine has no such options"
        raise ConfigError("storage_options", storage_options, reason, "Leave them out, or save to a URL")
    target = local(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, str(partial))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(partial, target)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink()
        raise CheckpointError(
            f"The checkpoint {target} could not be written: {error}. Free some space, or use another folder."
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load_file(path: PathLike, *, weights_only: bool = True, map_location: Any = "cpu") -> Any:
    """Read what `save_file` wrote.

    Args:
        path: The checkpoint.
        weights_only: Refuse anything but tensors and plain values. Files from people you trust may be
            loaded with False, which lets them run code.
        map_location: Where tensors go, as `torch.load` has it.
    """
    source: Any = _open_url(cast("str", path)) if is_url(path) else local(path)
    if isinstance(source, Path) and not source.is_file():
        raise CheckpointNotFoundError(f"There is no checkpoint at {source.absolute()}. Check the path.")
    try:
        return torch.load(source, map_location=map_location, weights_only=weights_only)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, error)) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {error}. Use an older one.") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # of bytes that are no pickle
        raise CheckpointError(
            f"The file {path} is damaged, or no checkpoint at all ({type(error).__name__} while it was "
            "read). Use another one."
        ) from error


def remove(path: PathLike) -> None:
    """Delete a checkpoint, be it a file or a directory; one that is not there is no error."""
    if is_url(path):
        files, inner = filesystem(cast("str", path), None)
        if files.exists(inner):
            files.rm(inner, recursive=True)
        return
    target = local(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _refusal(path: PathLike, error: pickle.UnpicklingError) -> str:
    """What of the file was refused, in a sentence."""
    named = re.search(r"GLOBAL\s+([\w.]+)", str(error))
    what = f"it wants to use {named.group(1)}" if named else str(error).splitlines()[0]
    return (
        f"The checkpoint {path} is damaged or holds more than tensors and plain values ({what}). "
        "If you trust its author, load it with weights_only=False, which lets the file run code."
    )


def _save_url(url: str, content: Any, storage_options: Any) -> None:
    files, inner = filesystem(url, storage_options)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        parent = inner.rpartition("/")[0]
        if parent:
            files.makedirs(parent, exist_ok=True)
        files.pipe_file(inner, buffer.getbuffer().tobytes())
    except OSError as error:
        raise CheckpointError(f"The checkpoint {url} could not be written: {error}.") from error


def _open_url(url: str) -> io.BytesIO:
    files, inner = filesystem(url, None)
    try:
        return io.BytesIO(files.cat_file(inner))
    except FileNotFoundError:
        raise CheckpointNotFoundError(f"There is no checkpoint at {url}. Check the URL.") from None


def filesystem(url: str, storage_options: Any = None) -> tuple[Any, str]:
    """fsspec's file system for `url`, and the path inside it."""
    import fsspec  # pyright: ignore[reportMissingTypeStubs] - only URLs pay for it

    try:
        return cast("Any", fsspec).core.url_to_fs(url, **(storage_options or {}))
    except (ImportError, ValueError) as error:
        reason = f"fsspec cannot open it: {error}"
        raise ConfigError(
            "path", url, reason, "Install what the message names, or use a local path"
        ) from error
