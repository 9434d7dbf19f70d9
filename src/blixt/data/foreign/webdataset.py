"""webdataset's tar shards as a dataset with an index: one pass over the headers, kept for the next time."""

import bz2
import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blixt.data.errors import FormatError
from blixt.data.foreign import leaves
from blixt.data.foreign.files import Files, default_cache_dir
from blixt.data.foreign.litdata.chunk import zstd_unpack
from blixt.data.foreign.paths import find
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.foreign.tar import members
from blixt.data.store import Credentials
from blixt.data.types import Pickle

Decode = Callable[[bytes], Any]
Member = tuple[str, int, int]
Sample = tuple[str, list[Member]]
"""The key, and extension, start and size of each file."""

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst")
_UNPACK: dict[str, Callable[[memoryview], bytes]] = {
    ".gz": gzip.decompress,
    ".tgz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".zst": zstd_unpack,
}
_DECODERS: dict[str, Decode] = {
    **dict.fromkeys(("txt", "text", "transcript"), leaves.text),
    **dict.fromkeys(("cls", "cls2", "index", "inx", "id", "count"), lambda data: int(data.decode())),
    **dict.fromkeys(("json", "jsn"), leaves.json_value),
    "npy": leaves.npy,
    **dict.fromkeys(leaves.IMAGES, leaves.image),
}
_PICKLES = ("pyd", "pickle", "pkl")


def samples_of(archive: memoryview, where: str) -> list[Sample]:
    """Group neighbouring files whose names agree up to the first dot of the last part."""
    found: list[Sample] = []
    for name, start, size in members(archive, where):
        folder, slash, base = name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot or base.startswith("__"):
            continue  # no sample: a hidden file, or one of webdataset's own
        key = f"{folder}{slash}{stem}"
        if not found or found[-1][0] != key:
            found.append((key, []))
        found[-1][1].append((extension.lower(), start, size))
    return found


class TarSource:
    """Samples of tar shards; see `WebDataset` for the arguments."""

    name = "webdataset"

    def __init__(
        self,
        files: Files,
        names: list[str],
        *,
        allow_pickle: bool,
        decoders: Mapping[str, Decode],
        index_dir: Path,
    ) -> None:
        self._files, self._names = files, names
        self._allow_pickle, self._own = allow_pickle, dict(decoders)
        self._samples = [self._indexed(name, index_dir) for name in names]
        self.part_rows = [len(samples) for samples in self._samples]
        self.size_bytes = sum(size for part in self._samples for _, files in part for _, _, size in files)
        keys = json.dumps([[key for key, _ in part] for part in self._samples])
        self.fingerprint = f"{zlib.crc32(keys.encode()):08x}:{self.size_bytes}"

    def _indexed(self, name: str, index_dir: Path) -> list[Sample]:
        store = self._files.store
        local = store.local
        stamp = (local / name).stat().st_mtime_ns if local is not None else ""
        key = f"{store.url(name)}\n{self._files.size(name)}\n{stamp}"
        path = index_dir / f"{hashlib.sha256(key.encode()).hexdigest()}.index.json"
        try:
            kept = json.loads(path.read_bytes())
            return [(key, [(ext, start, size) for ext, start, size in files]) for key, files in kept]
        except (OSError, ValueError):
            samples = samples_of(self._view(name), store.url(name))
        index_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=index_dir, suffix=".tmp", delete=False) as file:
            json.dump(samples, file)
        os.replace(file.name, path)
        return samples

    def _view(self, name: str) -> memoryview:
        return self._files.view(name, _UNPACK.get(Path(name).suffix))

    def where(self, part: int) -> str:
        """Return the address of a shard."""
        return self._files.store.url(self._names[part])

    def confirm(self) -> None:
        """See that no file was cut short while rows were read."""
        self._files.confirm()

    def read(self, part: int, rows: list[int], stored: bool) -> list[Any]:
        """Return samples of a shard as dicts by extension, with their key as `__key__`."""
        archive = self._view(self._names[part])
        samples: list[dict[str, Any]] = []
        for row in rows:
            key, files = self._samples[part][row]
            sample: dict[str, Any] = {"__key__": key}
            for extension, start, size in files:
                sample[extension] = self._value(extension, archive[start : start + size], key, stored)
            samples.append(sample)
        return samples

    def _value(self, extension: str, data: memoryview, key: str, stored: bool) -> Any:
        kind = extension.rpartition(".")[2]
        own = self._own.get(extension) or self._own.get(kind)
        if own is not None:
            return own(bytes(data))
        if kind in _PICKLES:
            where = f"the {extension} file of sample {key!r}"
            value = leaves.unpickle(bytes(data), self._allow_pickle, where)
            return Pickle(value) if stored else value
        decode = (leaves.keeper(kind) if stored else None) or _DECODERS.get(kind, bytes)
        try:
            return decode(bytes(data))
        except (ValueError, OSError) as problem:
            raise FormatError(
                f"the {extension} file of sample {key!r} cannot be decoded: {problem}"
            ) from None


class WebDataset(ForeignDataset):
    """The samples of webdataset's tar shards, by number: one pass over the headers makes an index.

    A sample is a dict by extension (`jpg`, `cls`, `seg.png` ...), with its key as `__key__`. Images become
    uint8 arrays, `txt` text, `cls` an integer, `json` and `npy` what they hold, everything else bytes.

    Args:
        location: a folder, a tar file, a pattern with `*`, or names with braces (`shard-{000..012}.tar`).
        allow_pickle: read `pkl` and `pyd` files, which can run any code.
        decoders: functions from bytes to a value by extension; `{"jpg": bytes}` keeps files as they are.
        credentials, options: for a remote store; see `open_store`.
        cache_dir: where indexes and remote or compressed files are kept.
        cache_bytes: how much may lie there.
        rows: `shuffle`, `seed`, `window`, `rank`, `world_size`: as for `Dataset`.

    Raises:
        FormatError: when there are no tar files, or one is damaged.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        allow_pickle: bool = False,
        decoders: Mapping[str, Decode] | None = None,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: str | int = "20GB",
        **rows: Any,
    ) -> None:
        store, sizes = find(location, SUFFIXES, credentials, options)
        index_dir = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        source = TarSource(
            Files(store, cache_dir, cache_bytes, sizes),
            list(sizes),
            allow_pickle=allow_pickle,
            decoders=decoders or {},
            index_dir=index_dir,
        )
        super().__init__(source, **rows)
