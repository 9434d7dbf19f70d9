"""One file, written whole or not at all."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from blixt.fabric.errors import CheckpointError


def save_file(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` with `torch.save` so that `path` never holds half a checkpoint.

    The bytes go to a neighbour of `path`, reach the disk, and only then take the name.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"The checkpoint {target} could not be written: {error}. Free some space, or use another folder."
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load_file(path: str | os.PathLike[str], *, weights_only: bool = True) -> Any:
    """Read what `save_file` wrote, onto the CPU.

    Args:
        path: The checkpoint.
        weights_only: Refuse anything but tensors and plain values. Files from people you trust may be
            loaded with False, which lets them run code.
    """
    source = Path(path)
    if not source.is_file():
        raise CheckpointError(f"There is no checkpoint at {source.absolute()}. Check the path.")
    try:
        return torch.load(source, map_location="cpu", weights_only=weights_only)
    except pickle.UnpicklingError as error:
        detail = str(error).splitlines()[0]
        raise CheckpointError(
            f"The checkpoint {source} is damaged or holds more than tensors and plain values ({detail}). "
            "If you trust its author, load it with weights_only=False."
        ) from error
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(f"The checkpoint {source} is damaged: {error}. Use an older one.") from error
