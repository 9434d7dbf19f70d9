"""What one process does for all, so that none waits for another that failed."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from blixt.fabric.errors import CheckpointError

T = TypeVar("T")


def several() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is rank 0, or alone."""
    return not several() or dist.get_rank() == 0


def first_does(action: Callable[[], T]) -> T:
    """Call `action` on rank 0; its (picklable) result comes back on all processes, or its failure is raised.

    Raises:
        CheckpointError: On the others, when rank 0 raised; rank 0 raises what it was.
    """
    if not several():
        return action()
    box: list[Any] = [None, None]
    failure: BaseException | None = None
    if is_first():
        try:
            box[0] = action()
        except Exception as error:  # told to the others first, then raised
            failure = error
            box[1] = str(error) or type(error).__name__
    dist.broadcast_object_list(box, src=0)
    if failure is not None:
        raise failure
    if box[1] is not None:
        raise CheckpointError(f"Rank 0 could not do its part: {box[1]}")
    return box[0]
