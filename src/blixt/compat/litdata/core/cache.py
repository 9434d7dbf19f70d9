"""LitData's `Cache`: items written by number, then read back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blixt.compat.litdata.core.crypto import encryption_of
from blixt.compat.litdata.core.dataset import StreamingDataset
from blixt.compat.litdata.core.loaders import BaseItemLoader, TokensLoader
from blixt.compat.litdata.core.places import Dir, location_of
from blixt.compat.litdata.core.serializers.base import Serializer
from blixt.compat.litdata.core.serializers.registry import added
from blixt.compat.litdata.core.write import document, stored
from blixt.data import DatasetWriter


class Cache:
    """Write `cache[0] = ...`, `cache[1] = ...`, then `done()` and `merge()`; then read.

    Args:
        input_dir: the folder.
        compression: `zstd` or `zstd:N`.
        encryption: a `FernetEncryption`.
        chunk_size: samples in a shard.
        chunk_bytes: about how large a shard may grow.
        item_loader: a `TokensLoader` for documents of tokens.
        serializers: of your own, by name; they write and read what they can serialize.

    Raises:
        IndexError: when items are not written in order.
    """

    def __init__(
        self,
        input_dir: str | Path | Dir,
        compression: str | None = None,
        encryption: Any = None,
        chunk_size: int | None = None,
        chunk_bytes: int | str | None = None,
        item_loader: BaseItemLoader | None = None,
        serializers: Mapping[str, Serializer] | None = None,
    ) -> None:
        self._place, self._item_loader, self._encryption = location_of(input_dir), item_loader, encryption
        self._is_tokens = isinstance(item_loader, TokensLoader)
        self._options: dict[str, Any] = {"compress": compression}
        if chunk_size is not None and not self._is_tokens:
            self._options["chunk_size"] = chunk_size
        if chunk_bytes is not None:
            self._options["chunk_bytes"] = chunk_bytes
        if encryption is not None:
            self._options["encrypt"] = encryption_of(encryption)
        self._serializers = added(serializers)
        self._writer: DatasetWriter | None = None
        self._written = 0
        self._reader: StreamingDataset | None = None

    def __setitem__(self, index: int, data: Any) -> None:
        if index != self._written:
            raise IndexError(f"items are written in order: {self._written} comes next, not {index}")
        if self._writer is None:
            self._writer = DatasetWriter(self._place, mode="overwrite", **self._options)
        self._writer.write(document(data) if self._is_tokens else stored(data, self._serializers))
        self._written += 1

    def done(self) -> None:
        """Publish what was written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def merge(self, num_workers: int = 1, node_rank: int | None = None) -> None:
        """Nothing is left to do after `done`."""
        del num_workers, node_rank
        self.done()

    @property
    def filled(self) -> bool:
        """Whether there is a dataset."""
        return self._writer is None and bool(self._written or (Path(self._place) / "index.json").exists())

    def __getitem__(self, index: int) -> Any:
        return self._opened()[index]

    def __len__(self) -> int:
        return len(self._opened())

    def _opened(self) -> StreamingDataset:
        if self._reader is None:
            self._reader = StreamingDataset(
                self._place,
                item_loader=self._item_loader,
                encryption=self._encryption,
                serializers=self._serializers,
            )
        return self._reader
