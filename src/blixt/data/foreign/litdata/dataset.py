"""LitData's folders as datasets of ours: samples, or a token stream in blocks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blixt.data.errors import FormatError
from blixt.data.foreign.files import Files
from blixt.data.foreign.litdata import chunk as chunks
from blixt.data.foreign.litdata.fernet import Decrypt
from blixt.data.foreign.litdata.leaves import Decode, dtype
from blixt.data.foreign.litdata.source import LitDataSource, Region
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.place import Place, as_store
from blixt.data.store import Credentials


class LitDataDataset(ForeignDataset):
    """The samples of a folder that LitData's `optimize` wrote (versions 0.2.30 to 0.2.76).

    Leaves become plain values: tensors and arrays numpy arrays, images uint8 arrays `[height, width,
    channels]`, media and files bytes. A folder of tokens has its documents as samples; `LitDataTokens` reads
    it in blocks.

    Args:
        location: the folder, on this machine or in any store `open_store` knows.
        decrypt: decrypts an encrypted dataset; see `fernet`.
        allow_pickle: read leaves that are pickles, which can run any code: only from people you trust.
        decoders: functions from bytes to a value, by the name of the leaf type, for types of your own or
            to decode one in another way.
        region_of_interest: for each chunk the rows `(start, end)` to read; all when None.
        credentials, options: for a remote store; see `open_store`.
        cache_dir: where remote and compressed files are kept.
        cache_bytes: how much may lie there.
        rows: `shuffle`, `seed`, `window`, `rank`, `world_size`: as for `Dataset`.

    Raises:
        FormatError: when there is no such dataset, or it holds what is not known here.
        DataError: when it is encrypted and there is no `decrypt`.
    """

    def __init__(
        self,
        location: Place,
        *,
        decrypt: Decrypt | None = None,
        allow_pickle: bool = False,
        decoders: Mapping[str, Decode] | None = None,
        region_of_interest: Region | None = None,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: str | int = "20GB",
        **rows: Any,
    ) -> None:
        files = Files(as_store(location, credentials, options), cache_dir, cache_bytes)
        source = LitDataSource(
            files,
            decrypt=decrypt,
            allow_pickle=allow_pickle,
            decoders=decoders or {},
            region_of_interest=region_of_interest,
        )
        self.temporal = source.temporal
        """How its records lie, where they are long arrays of which windows can be read."""
        super().__init__(source, **rows)


class TokenSource:
    """Blocks of tokens, each within one chunk, as LitData counts them: a chunk's last tokens are left out."""

    name = "litdata-tokens"

    def __init__(self, documents: LitDataSource, block_size: int) -> None:
        index = documents.index
        if not index.is_tokens:
            raise FormatError(
                f"{documents.files.store.location} holds samples, not tokens; read it with LitDataDataset"
            )
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        kind, _, number = index.formats[0].partition(":")
        self._item = dtype(kind.removeprefix("no_header_"), int(number))
        self._documents, self._block_size = documents, block_size
        self.part_rows = [(tokens or 0) // block_size for tokens in index.tokens]
        self.size_bytes, self.fingerprint = index.size_bytes, f"{index.fingerprint}:{block_size}"

    def where(self, part: int) -> str:
        """Return the address of a chunk."""
        return self._documents.where(part)

    def confirm(self) -> None:
        """See that no file was cut short while rows were read."""
        self._documents.confirm()

    def read(self, part: int, rows: list[int], stored: bool) -> list[Any]:
        """Return blocks of a chunk, as arrays of the stored type."""
        chunk = self._documents.chunk(part)
        if not isinstance(chunk, chunks.ItemChunk):
            raise FormatError("it is not laid out as tokens")
        tokens, size = chunk.tokens(self._item), self._block_size
        if (max(rows) + 1) * size > len(tokens):
            raise FormatError(f"it holds {len(tokens)} tokens, fewer than its index says")
        return [np.array(tokens[row * size : (row + 1) * size]) for row in rows]


class LitDataTokens(ForeignDataset):
    """A folder of tokens that LitData wrote, in blocks as its `TokensLoader(block_size)` cuts them.

    A block lies within one chunk, and what is left at a chunk's end is not read. To read every token, in
    blocks across documents and chunks, `convert` the folder and open it with `TokenDataset`.

    Args:
        location: the folder.
        block_size: tokens in a block.
        credentials, options: for a remote store; see `open_store`.
        cache_dir: where remote files are kept.
        cache_bytes: how much may lie there.
        rows: `shuffle`, `seed`, `window`, `rank`, `world_size`: as for `Dataset`.

    Raises:
        FormatError: when there is no such dataset, or it does not hold tokens.
    """

    def __init__(
        self,
        location: Place,
        block_size: int,
        *,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: str | int = "20GB",
        **rows: Any,
    ) -> None:
        files = Files(as_store(location, credentials, options), cache_dir, cache_bytes)
        documents = LitDataSource(
            files, decrypt=None, allow_pickle=False, decoders={}, region_of_interest=None
        )
        super().__init__(TokenSource(documents, block_size), **rows)
