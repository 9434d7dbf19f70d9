"""MosaicML's MDS folders, read without mosaicml-streaming; no pickle unless asked for.

A shard is `u32 n`, `u32 offsets[n + 1]` from the start of the file, the writer's configuration as JSON, and
the samples; a sample is a u32 size for each column whose size varies, and the columns. `index.json` names
shards, columns, encodings, compression and hashes.
"""

import bz2
import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blixt.data.errors import CorruptionError, DataError, FormatError
from blixt.data.foreign.files import Files, read_text
from blixt.data.foreign.litdata.chunk import zstd_unpack
from blixt.data.foreign.mds_encodings import decoder
from blixt.data.foreign.optional import need
from blixt.data.foreign.rows import ForeignDataset, check_rows
from blixt.data.place import Place, as_store
from blixt.data.store import Credentials, Store

Decode = Callable[[bytes], Any]
_VERSION = 2


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as the index describes it."""

    file: str
    zip_file: str | None
    compression: str | None
    hashes: Mapping[str, str]
    zip_hashes: Mapping[str, str]
    rows: int
    size_bytes: int
    names: list[str]
    encodings: list[str]
    sizes: list[int | None]


def _shard(stored: dict[str, Any], url: str) -> Shard:
    if stored["format"] != "mds" or stored["version"] != _VERSION:
        raise FormatError(
            f"{url} names a shard of format {stored['format']!r}, version {stored['version']}; "
            f"'mds' of version {_VERSION} is known here"
        )
    raw: dict[str, Any] = stored["raw_data"]
    packed: dict[str, Any] = stored["zip_data"] or {}
    return Shard(
        raw["basename"],
        packed.get("basename"),
        (stored["compression"] or "").partition(":")[0] or None,
        raw["hashes"],
        packed.get("hashes", {}),
        stored["samples"],
        raw["bytes"],
        stored["column_names"],
        stored["column_encodings"],
        stored["column_sizes"],
    )


def read_index(store: Store) -> tuple[list[Shard], str]:
    """Return the shards and a fingerprint of the index.

    Raises:
        FormatError: when there is no index, or it is not one of MDS.
    """
    url = store.url("index.json")
    text = read_text(store, "index.json", "MDS dataset")
    try:
        shards = [_shard(shard, url) for shard in json.loads(text)["shards"]]
    except (ValueError, KeyError, TypeError) as problem:
        raise FormatError(f"{url} is not an index of MDS: {problem!r}") from None
    return shards, f"{zlib.crc32(text.encode()):08x}"


class MDSSource:
    """Samples of an MDS folder; see `MDSDataset` for the arguments."""

    name = "mds"

    def __init__(
        self, files: Files, *, allow_pickle: bool, decoders: Mapping[str, Decode], check: bool
    ) -> None:
        self._files, self._check = files, check
        self._allow_pickle, self._own = allow_pickle, dict(decoders)
        self._shards, self.fingerprint = read_index(files.store)
        self.part_rows = [shard.rows for shard in self._shards]
        self.size_bytes = sum(shard.size_bytes for shard in self._shards)
        self._checked: set[int] = set()

    def where(self, part: int) -> str:
        """Return the address of a shard."""
        return self._files.store.url(self._shards[part].file)

    def confirm(self) -> None:
        """See that no file was cut short while rows were read."""
        self._files.confirm()

    def read(self, part: int, rows: list[int], stored: bool) -> list[Any]:
        """Return samples of a shard as dicts."""
        shard = self._shards[part]
        content = self._content(part)
        count = struct.unpack_from("<I", content)[0]
        check_rows(rows, count, self.where(part))
        offsets = np.frombuffer(content, "<u4", count + 1, 4)
        decoders = [decoder(name, self._allow_pickle, self._own, stored) for name in shard.encodings]
        return [self._sample(shard, decoders, content[offsets[row] : offsets[row + 1]]) for row in rows]

    def _content(self, part: int) -> memoryview:
        shard = self._shards[part]
        store = self._files.store
        unpacked = shard.compression is None or (
            store.local is not None and (store.local / shard.file).exists()
        )
        if unpacked:
            content = self._files.view(shard.file)
        else:
            if shard.zip_file is None or shard.compression not in (*_UNPACK, *_CODECS):
                raise FormatError(
                    f"{store.url(shard.file)} has the compression {shard.compression!r}, not known here"
                )
            content = self._files.view(shard.zip_file, partial(_unpack_checked, shard, self._check))
        if self._check and part not in self._checked:
            _check(content, shard.hashes, store.url(shard.file))
            self._checked.add(part)
        return content

    @staticmethod
    def _sample(shard: Shard, decoders: list[Decode], item: memoryview) -> dict[str, Any]:
        varying = sum(not size for size in shard.sizes)
        lengths = iter(np.frombuffer(item, "<u4", varying).tolist())
        at = 4 * varying
        sample: dict[str, Any] = {}
        for name, size, decode in zip(shard.names, shard.sizes, decoders, strict=True):
            length = size or next(lengths)
            sample[name] = decode(bytes(item[at : at + length]))
            at += length
        if at != len(item):
            raise ValueError(f"a sample has {len(item)} bytes where its columns have {at}")
        return sample


class MDSDataset(ForeignDataset):
    """The samples of a folder that MosaicML's `MDSWriter` wrote.

    A sample is a dict by column. Images become uint8 arrays `[height, width, channels]`.

    Args:
        location: the folder with `index.json` (of one split), on this machine or in a store.
        allow_pickle: read columns of pickles, which can run any code: only from people you trust.
        decoders: functions from bytes to a value, by encoding, for encodings of your own.
        check: compare each shard with the hashes in the index, if there are any, when it is first read.
        credentials, options: for a remote store; see `open_store`.
        cache_dir: where remote and compressed files are kept.
        cache_bytes: how much may lie there.
        rows: `shuffle`, `seed`, `window`, `rank`, `world_size`: as for `Dataset`.

    Raises:
        FormatError: when there is no such dataset, or it holds what is not known here.
        CorruptionError: while reading, when a shard is not the one that was written.
    """

    def __init__(
        self,
        location: Place,
        *,
        allow_pickle: bool = False,
        decoders: Mapping[str, Decode] | None = None,
        check: bool = True,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: str | int = "20GB",
        **rows: Any,
    ) -> None:
        files = Files(as_store(location, credentials, options), cache_dir, cache_bytes)
        super().__init__(
            MDSSource(files, allow_pickle=allow_pickle, decoders=decoders or {}, check=check), **rows
        )


def _check(content: memoryview, hashes: Mapping[str, str], url: str) -> None:
    for name, expected in hashes.items():
        if _hash(name, content) != expected:
            raise CorruptionError(
                f"shard {url} is damaged: its {name} is not the one in the index "
                f"(bytes 0 to {len(content)}); restore it from a copy"
            )


def _hash(name: str, content: memoryview) -> str:
    if name in hashlib.algorithms_available:
        return hashlib.new(name, content).hexdigest()
    try:
        import xxhash
    except ModuleNotFoundError:
        raise DataError(
            f"checking {name} needs xxhash: pip install xxhash, or pass check=False to read without checking"
        ) from None
    return getattr(xxhash, name)(content).hexdigest()


def _unpack_checked(shard: Shard, check: bool, content: memoryview) -> bytes:
    """Unpack a compressed shard, compared with its hashes before."""
    if check:
        _check(content, shard.zip_hashes, shard.zip_file or "")
    if shard.compression in _CODECS:
        decompress = need("pyarrow", "parquet").decompress
        return decompress(content, shard.size_bytes, codec=_CODECS[shard.compression], asbytes=True)
    return _UNPACK[shard.compression or ""](content)


_UNPACK: dict[str, Callable[[memoryview], bytes]] = {
    "zstd": zstd_unpack,
    "gz": gzip.decompress,
    "bz2": bz2.decompress,
}
_CODECS = {"br": "brotli", "snappy": "snappy"}
