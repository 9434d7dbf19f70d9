"""What a checkpoint keeps of live objects, and how they get it back."""

import os
from collections.abc import Mapping
from typing import Any

from blixt.fabric.errors import CheckpointError


def state_of(objects: Mapping[str, Any]) -> dict[str, Any]:
    """The `state_dict` of everything that has one, by name; plain values as they are."""
    return {
        name: item.state_dict() if callable(getattr(item, "state_dict", None)) else item
        for name, item in objects.items()
    }


def restore_state(
    objects: dict[str, Any], content: Mapping[str, Any], path: str | os.PathLike[str], *, strict: bool
) -> dict[str, Any]:
    """Give each of `objects` its part of `content`, in their order; plain values in `objects` are replaced.

    Args:
        objects: What to restore, by name.
        content: What the file held.
        path: The file, for the error.
        strict: Whether `content` must hold every name of `objects`.

    Returns:
        What of `content` nobody wanted.

    Raises:
        CheckpointError: When a name is missing; then nothing is restored.
    """
    missing = [name for name in objects if name not in content]
    if missing and strict:
        found = ", ".join(sorted(content)) or "nothing"
        raise CheckpointError(f"The checkpoint {path} has no {missing[0]!r}. It holds {found}.")
    for name in [name for name in objects if name in content]:
        item, loaded = objects[name], content[name]
        if callable(getattr(item, "load_state_dict", None)):
            item.load_state_dict(loaded)
        else:
            objects[name] = loaded
    return {name: item for name, item in content.items() if name not in objects}
