"""Tar files as inputs, read as webdataset writes them: members that share a name are one sample."""

import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from blixt.data.build.local_files import local_files
from blixt.data.errors import BuildError


@dataclass(frozen=True, slots=True)
class _Member:
    field: str
    offset: int
    size: int


class TarSamples:
    """The samples of tar files: `{"__key__": "a/0001", "jpg": b"...", "cls": b"7"}`.

    A member's name up to the first dot of its last part is the key, the rest names the field; neighbours
    with the same key are one sample. Plain tar files are indexed once by their headers, so a unit reads only
    its own bytes; of compressed ones a unit reads from the beginning to where its samples are, so they are
    best given with few samples each.

    Args:
        files: one local path, or several.

    Raises:
        BuildError: when a file is no tar file.
    """

    def __init__(self, files: str | Path | Sequence[str | Path]) -> None:
        self._files = local_files(files, "WebDataset")
        self._samples: list[list[tuple[str, list[_Member]]]] = []
        self._packed: list[bool] = []
        for path in self._files:
            packed = not _is_plain(path)
            self._packed.append(packed)
            self._samples.append(list(_index(path)))
        self.cuts = list(accumulate(map(len, self._samples)))

    def __len__(self) -> int:
        return self.cuts[-1] if self.cuts else 0

    def identity(self, first: int, stop: int) -> str:
        """Name the samples `[first, stop)`."""
        files = range(bisect_right(self.cuts, first), bisect_right(self.cuts, stop - 1) + 1)
        stats = [(path, Path(path).stat()) for path in map(self._files.__getitem__, files)]
        return f"{first} {stop} " + " ".join(f"{path}:{it.st_size}:{it.st_mtime_ns}" for path, it in stats)

    def read(self, first: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield the samples `[first, stop)`."""
        while first < stop:
            file = bisect_right(self.cuts, first)
            begins = self.cuts[file - 1] if file else 0
            take = min(stop, self.cuts[file]) - first
            yield from self._read(file, first - begins, first - begins + take)
            first += take

    def _read(self, file: int, first: int, stop: int) -> Iterator[dict[str, Any]]:
        samples = self._samples[file][first:stop]
        with (
            tarfile.open(self._files[file]) if self._packed[file] else open(self._files[file], "rb") as source
        ):
            stream: Any = source.fileobj if isinstance(source, tarfile.TarFile) else source
            for key, members in samples:
                sample: dict[str, Any] = {"__key__": key}
                for member in members:
                    stream.seek(member.offset)
                    sample[member.field] = stream.read(member.size)
                yield sample


def _index(path: str) -> Iterator[tuple[str, list[_Member]]]:
    """Yield each sample's key and where its members are (in the unpacked stream)."""
    key, members = "", list[_Member]()
    try:
        with tarfile.open(path) as tar:
            for info in tar:
                if not info.isfile():
                    continue
                folder, _, name = info.name.rpartition("/")
                stem, _, field = name.partition(".")
                this = f"{folder}/{stem}" if folder else stem
                if members and this != key:
                    yield key, members
                    members = []
                key = this
                members.append(_Member(field, info.offset_data, info.size))
    except (tarfile.TarError, EOFError) as problem:
        raise BuildError(f"{path} is not a tar file that can be read: {problem}") from None
    if members:
        yield key, members


def _is_plain(path: str) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except tarfile.TarError:
        return False
