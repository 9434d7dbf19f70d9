"""Which files make a sample."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast


class RawFile(NamedTuple):
    """A file of a listing.

    Attributes:
        path: its path in the store.
        size: its size in bytes when it was listed.
    """

    path: str
    size: int


Group = Callable[[Sequence[RawFile]], Iterable[Any]]
"""Takes all files in the order of their paths; gives the samples: files, or dicts, tuples or lists."""


def each(files: Sequence[RawFile]) -> Sequence[RawFile]:
    """Make every file a sample."""
    return files


def by_suffix(**suffixes: str) -> Group:
    """Return a hook that makes a sample of the files whose paths differ only in their suffix.

    A group that lacks one of them is left out.

    Example:
        >>> pairs = by_suffix(image=".jpg", mask="_mask.png")
        >>> files = [RawFile("a.jpg", 3), RawFile("a_mask.png", 1), RawFile("b.jpg", 4)]
        >>> [{name: file.path for name, file in sample.items()} for sample in pairs(files)]
        [{'image': 'a.jpg', 'mask': 'a_mask.png'}]
    """
    if not suffixes:
        raise ValueError("by_suffix needs at least one name and suffix, such as image='.jpg'")
    longest_first = sorted(suffixes.items(), key=lambda pair: -len(pair[1]))

    def group(files: Sequence[RawFile]) -> list[dict[str, RawFile]]:
        found: dict[str, dict[str, RawFile]] = {}
        for file in files:
            for name, suffix in longest_first:
                if file.path.endswith(suffix):
                    found.setdefault(file.path.removesuffix(suffix), {})[name] = file
                    break
        return [
            {name: sample[name] for name in suffixes}
            for sample in found.values()
            if len(sample) == len(suffixes)
        ]

    return group


def files_of(sample: Any) -> list[RawFile]:
    """Return the files of a sample, in the order of its tree.

    Raises:
        TypeError: when a leaf is no file.
    """
    if isinstance(sample, RawFile):
        return [sample]
    if isinstance(sample, Mapping):
        parts: Iterable[Any] = cast(Mapping[str, Any], sample).values()
    elif isinstance(sample, (list, tuple)):
        parts = cast(Sequence[Any], sample)
    else:
        raise TypeError(
            f"a sample must be a RawFile, or a dict, list or tuple of them; the group hook gave {sample!r}"
        )
    return [file for part in parts for file in files_of(part)]


def filled(sample: Any, contents: Mapping[str, Any]) -> Any:
    """Return the sample with each file replaced by its content."""
    if isinstance(sample, RawFile):
        return contents[sample.path]
    if isinstance(sample, Mapping):
        items = cast(Mapping[str, Any], sample).items()
        return {name: filled(part, contents) for name, part in items}
    parts = [filled(part, contents) for part in cast(Sequence[Any], sample)]
    return tuple(parts) if isinstance(sample, tuple) else parts
