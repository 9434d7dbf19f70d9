"""Names and places of checkpoint files: pure functions, and the few file operations they need."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

_FIELD = re.compile(r"{([^:}]+)(?::([^}]*))?}")


def fill_pattern(pattern: str, metrics: Mapping[str, Any], insert_names: bool, equals: str = "=") -> str:
    """Fill a pattern such as "{epoch}-{val_loss:.2f}"; metrics that are unknown count as 0.

    Args:
        pattern: Fields in braces, each with an optional format after a colon.
        metrics: Numbers or tensors of one element.
        insert_names: Write "epoch=1" for "{epoch}" rather than "1".
        equals: What stands between name and number.

    Example:
        >>> fill_pattern("{epoch:02d}-{val_loss:.2f}", {"epoch": 3, "val_loss": torch.tensor(0.5)}, True)
        'epoch=03-val_loss=0.50'
    """

    def fill(match: re.Match[str]) -> str:
        name, form = match.group(1), match.group(2) or ""
        value = metrics.get(name, 0)
        text = format(value.item() if isinstance(value, torch.Tensor) else value, form)
        return f"{name}{equals}{text}" if insert_names else text

    return _FIELD.sub(fill, pattern)


def first_free(make: Callable[[int | None], str], taken: Callable[[str], bool], start: int) -> str:
    """The first of `make(None)`, `make(start)`, `make(start + 1)` ... that is not taken.

    Example:
        >>> first_free(lambda n: "a" if n is None else f"a-v{n}", {"a", "a-v1"}.__contains__, 1)
        'a-v2'
    """
    path, version = make(None), start
    while taken(path):
        path, version = make(version), version + 1
    return path


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system and not a URL."""
    return "://" not in path or path.startswith(("file://", "local://"))


def exists(path: str) -> bool:
    """Whether there is a file or folder, here or behind a URL."""
    if is_local(path):
        return os.path.lexists(path)
    from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    system, inner = url_to_fs(path)  # pyright: ignore[reportUnknownVariableType]
    return bool(system.exists(inner))  # pyright: ignore[reportUnknownMemberType]


def write_text(path: str, text: str) -> None:
    """Write a small text file, here or behind a URL."""
    import fsspec  # pyright: ignore[reportMissingTypeStubs]

    with fsspec.open(path, "w") as stream:  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        stream.write(text)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


def point_to(target: str, link: str) -> None:
    """Make `link` a symbolic link to `target`, or a copy where the system has no links for us."""
    if os.path.abspath(target) == os.path.abspath(link):
        return
    fresh = Path(f"{link}.new")
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(os.path.relpath(target, os.path.dirname(link)))
    except OSError:
        shutil.copytree(target, fresh) if os.path.isdir(target) else shutil.copy(target, fresh)
    if os.path.isdir(link) and not os.path.islink(link):
        shutil.rmtree(link)
    os.replace(fresh, link)


def may_remove(path: str, folder: str, in_use: str | None) -> bool:
    """Whether an old checkpoint is ours to delete: below `folder`, and not the one the run came from."""
    if not is_local(path):
        return True
    whole = Path(path).absolute()
    if in_use is not None and is_local(in_use) and whole == Path(in_use).absolute():
        return False
    return Path(folder).absolute() in whole.parents
