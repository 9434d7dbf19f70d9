"""A folder that LitData wrote, as a source of rows."""

import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import numpy as np

from blixt.data.errors import DataError, FormatError
from blixt.data.foreign.files import Files, read_text
from blixt.data.foreign.litdata import chunk as chunks
from blixt.data.foreign.litdata.fernet import Decrypt
from blixt.data.foreign.litdata.leaves import Decode, decoder
from blixt.data.foreign.litdata.temporal import Temporal
from blixt.data.foreign.litdata.tree import compile_tree
from blixt.data.foreign.rows import check_rows
from blixt.data.store import Store
from blixt.data.types import Tokens

_MAX_DECRYPTED = 4
Region = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Index:
    """What `index.json` says: the chunks, and how their items are coded."""

    files: list[str]
    rows: list[int]
    tokens: list[int | None]
    size_bytes: int
    config: dict[str, Any]
    fingerprint: str

    @property
    def formats(self) -> list[str]:
        """The leaves' names, in order."""
        return self.config.get("data_format") or []

    @property
    def is_tokens(self) -> bool:
        """Whether items are documents of a token stream."""
        return self.config.get("item_loader") == "TokensLoader"


def read_index(store: Store) -> Index:
    """Read the index of a folder.

    Raises:
        FormatError: when there is none, or it is not LitData's.
    """
    text = read_text(store, "index.json", "dataset of LitData")
    try:
        stored = json.loads(text)
        listed, config = stored["chunks"], stored["config"]
        return Index(
            [chunk["filename"] for chunk in listed],
            [int(chunk["chunk_size"]) for chunk in listed],
            [chunk.get("dim") for chunk in listed],
            sum(int(chunk["chunk_bytes"]) for chunk in listed),
            config,
            f"{zlib.crc32(text.encode()):08x}",
        )
    except (ValueError, KeyError, TypeError) as problem:
        raise FormatError(f"{store.url('index.json')} is not an index of LitData: {problem!r}") from None


class LitDataSource:
    """Samples of a folder that LitData wrote; see `LitDataDataset` for the arguments."""

    name = "litdata"

    def __init__(
        self,
        files: Files,
        *,
        decrypt: Decrypt | None,
        allow_pickle: bool,
        decoders: Mapping[str, Decode],
        region_of_interest: Region | None,
    ) -> None:
        self.files = files
        self.index = index = read_index(files.store)
        self.region = checked_region(index, region_of_interest)
        self.part_rows = [end - start for start, end in self.region]
        self.size_bytes, self.fingerprint = index.size_bytes, index.fingerprint
        self._coding = (allow_pickle, dict(decoders))
        self._decrypt = decrypt
        encryption = index.config.get("encryption")
        if encryption and decrypt is None:
            raise DataError(
                f"{files.store.location} is encrypted ({encryption.get('algorithm')}): pass decrypt=, for "
                "example fernet(key_file, password)"
            )
        self._level: str | None = encryption["level"] if encryption else None
        self._setup()

    def _setup(self) -> None:
        index = self.index
        schema = index.config.get("temporal_schema")
        self.temporal = None if schema is None else Temporal(schema)
        self._build = compile_tree(index.config.get("data_spec"))
        self._decoders = {
            stored: list(starmap(decoder, ((name, *self._coding, stored) for name in index.formats)))
            for stored in (False, True)
        }
        self._open: OrderedDict[int, chunks.Chunk] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without what is open or compiled."""
        left = ("temporal", "_build", "_decoders", "_open", "_lock")
        return {key: value for key, value in self.__dict__.items() if key not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._setup()

    def where(self, part: int) -> str:
        """Return the address of a chunk."""
        return self.files.store.url(self.index.files[part])

    def confirm(self) -> None:
        """See that no file was cut short while rows were read."""
        self.files.confirm()

    def read(self, part: int, rows: list[int], stored: bool) -> list[Any]:
        """Return samples of a chunk, counted from the start of its region of interest."""
        chunk = self.chunk(part)
        check_rows(rows, chunk.count, self.where(part))
        first = self.region[part][0]
        items = chunk.read((first + row for row in rows), stored)
        if isinstance(chunk, chunks.RowChunk):
            return items
        if self.temporal is not None:
            return [self.temporal.window(memoryview(item)) for item in items]
        if self.index.is_tokens:
            return [self._document(item, stored) for item in items]
        return [self._sample(item, stored) for item in items]

    def record(self, part: int, row: int) -> memoryview:
        """Return the stored bytes of a sample; those of a long array of which only a window is wanted."""
        check_rows([row], self.chunk(part).count, self.where(part))
        return memoryview(self.chunk(part).read([self.region[part][0] + row], True)[0])

    def chunk(self, part: int) -> chunks.Chunk:
        """Open a chunk; those used last are at hand."""
        with self._lock:
            if part not in self._open:
                if len(self._open) >= (_MAX_DECRYPTED if self._level == "chunk" else 64):
                    self._open.popitem(last=False)
                self._open[part] = self._opened(self.index.files[part])
            self._open.move_to_end(part)
            return self._open[part]

    def _opened(self, name: str) -> chunks.Chunk:
        packed = name.count(".") > 1  # chunk-0-0.zstd.bin: the whole file is compressed
        content = self.files.view(name, chunks.zstd_unpack if packed else None)
        where = self.files.store.url(name)
        if self._level == "chunk":
            content = memoryview(self._decrypted(content, where))
        return chunks.open_chunk(content, where, self._item)

    def _item(self, item: memoryview) -> bytes | memoryview:
        if self.index.config.get("compression_level") == "sample":
            item = memoryview(chunks.zstd_unpack(item))
        return self._decrypted(item, "an item") if self._level == "sample" else item

    def _decrypted(self, data: memoryview, where: str) -> bytes:
        if self._decrypt is None:
            raise AssertionError("encrypted data was opened without a way to decrypt it")
        try:
            return self._decrypt(bytes(data))
        except Exception as problem:  # each kind of encryption has an error class of its own
            raise FormatError(
                f"{where} cannot be decrypted ({type(problem).__name__}): "
                "the password or key is another one, or the bytes are damaged"
            ) from problem

    def _document(self, item: Any, stored: bool) -> Any:
        tokens = self._decoders[False][0](item)
        return Tokens(tokens) if stored else tokens

    def _sample(self, item: Any, stored: bool) -> Any:
        decoders = self._decoders[stored]
        lengths = np.frombuffer(item[: 4 * len(decoders)], "<u4").tolist()
        if len(item) != sum(lengths) + 4 * len(decoders):
            raise FormatError("an item is damaged: its leaves have other lengths")
        at = 4 * len(decoders)
        leaves: list[Any] = []
        for decode, length in zip(decoders, lengths, strict=True):
            leaves.append(decode(item[at : at + length]))
            at += length
        return self._build(iter(leaves))


def checked_region(index: Index, region: Region | None) -> list[tuple[int, int]]:
    """Return the rows of each chunk that are read: all of them, or those asked for.

    Raises:
        ValueError: when the region does not fit the chunks.
    """
    if region is None:
        return [(0, rows) for rows in index.rows]
    if len(region) != len(index.rows):
        raise ValueError(
            f"region_of_interest has {len(region)} entries, but the dataset has {len(index.rows)} chunks"
        )
    for (start, end), rows, name in zip(region, index.rows, index.files, strict=True):
        if not 0 <= start <= end <= rows:
            raise ValueError(f"region_of_interest {(start, end)} does not fit {name}, which has {rows} rows")
    return [(int(start), int(end)) for start, end in region]
