"""LitData's `StreamingRawDataset`: files as they are, map style."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from torch.utils.data import Dataset

from blixt.compat.litdata.core.places import location_of, store_arguments
from blixt.data.raw import RawDataset, RawFile
from blixt.data.store import open_store


@dataclass(frozen=True)
class FileMetadata:
    """A file: its address and size."""

    path: str
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return both by name."""
        return {"path": self.path, "size": self.size}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FileMetadata":
        """Make it from what `to_dict` returned."""
        return cls(data["path"], data["size"])


class BaseIndexer(ABC):
    """Finds the files of a raw dataset."""

    @abstractmethod
    def discover_files(self, input_dir: str, storage_options: dict[str, Any] | None) -> list[FileMetadata]:
        """Return the files, which lie below `input_dir`."""


class FileIndexer(BaseIndexer):
    """Every file below a folder, or those of some extensions.

    Args:
        max_depth: how many folders deep a bucket is listed.
        extensions: with their dot, such as `.jpg`; all when None.
    """

    def __init__(self, max_depth: int = 5, extensions: list[str] | None = None) -> None:
        self.max_depth = max_depth
        self.extensions = [extension.lower() for extension in extensions or ()]

    def discover_files(self, input_dir: str, storage_options: dict[str, Any] | None) -> list[FileMetadata]:
        """Return the files, in the order of their paths."""
        store = open_store(location_of(input_dir), **store_arguments(storage_options))
        base, depth = input_dir.rstrip("/"), self.max_depth if store.local is None else sys.maxsize
        return [
            FileMetadata(f"{base}/{path}", size)
            for path, size in sorted(store.list())
            if path.count("/") < depth
            and (not self.extensions or os.path.splitext(path)[1].lower() in self.extensions)
        ]


class StreamingRawDataset(Dataset[Any]):
    """Files of a folder or bucket, fetched concurrently; override `setup` to group or leave out files.

    The arguments are LitData's; `cache_files`, `max_concurrent_downloads`, `max_prefetch`,
    `prefetch_cache_size`, `hedge_delay`, `download_timeout` and the `range_` ones are taken and not needed.

    Raises:
        ValueError: when `item_type` is neither "bytes" nor "path", or "path" without `cache_files`; when an
            indexer finds a file that is not below `input_dir`.
    """

    def __init__(
        self,
        input_dir: str | Path,
        cache_dir: str | None = None,
        indexer: BaseIndexer | None = None,
        storage_options: dict[str, Any] | None = None,
        cache_files: bool = False,
        recompute_index: bool = False,
        transform: Callable[[Any], Any] | None = None,
        max_concurrent_downloads: int | None = None,
        max_prefetch: int = 16,
        prefetch_cache_size: int | None = None,
        item_type: Literal["bytes", "path"] = "bytes",
        hedge_delay: float = 0.0,
        download_timeout: float = 120.0,
        range_parallel_threshold: int = 0,
        range_chunk_size: int = 1,
    ) -> None:
        del max_concurrent_downloads, max_prefetch, prefetch_cache_size
        del hedge_delay, download_timeout, range_parallel_threshold, range_chunk_size
        if item_type not in ("bytes", "path"):
            raise ValueError(f"item_type must be 'bytes' or 'path', got {item_type!r}")
        if item_type == "path" and not cache_files:
            raise ValueError("item_type='path' requires cache_files=True")
        self.input_dir = location_of(input_dir)
        self.indexer, self._storage_options = indexer, storage_options
        self.transform = transform
        self.rows = RawDataset(
            self.input_dir,
            group=self._group,
            item=item_type,
            relist=recompute_index,
            cache_dir=cache_dir,
            **store_arguments(storage_options),
        )
        self.items = [self._shown(sample) for sample in self.rows.samples]

    def setup(self, files: list[FileMetadata]) -> Any:
        """Return the samples: the files, or lists of files; may be overridden."""
        return files

    def _group(self, files: Sequence[RawFile]) -> Any:
        base = self.input_dir.rstrip("/")
        by_address = {f"{base}/{file.path}": file for file in files}
        found = [FileMetadata(address, file.size) for address, file in by_address.items()]
        if self.indexer is not None:
            found = self.indexer.discover_files(self.input_dir, self._storage_options)
            if strange := [file.path for file in found if file.path not in by_address]:
                raise ValueError(f"the indexer found {strange[0]}, which is no file below {self.input_dir}")
        chosen = self.setup(found)
        return [self._chosen(sample, by_address) for sample in chosen]

    def _chosen(self, sample: Any, files: dict[str, RawFile]) -> Any:
        if isinstance(sample, (list, tuple)):
            return [files[file.path] for file in cast("list[FileMetadata]", sample)]
        return files[sample.path]

    def _shown(self, sample: Any) -> Any:
        if isinstance(sample, list):
            return [self._shown(file) for file in cast("list[RawFile]", sample)]
        return FileMetadata(f"{self.input_dir.rstrip('/')}/{sample.path}", sample.size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        """Return a sample: the bytes (or path) of a file, or a list of them."""
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} out of range for dataset with length {len(self)}")
        return self._made(self.rows.item(index))

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Return several samples, fetched together."""
        return [self._made(sample) for sample in self.rows.__getitems__(indices)]

    def _made(self, sample: Any) -> Any:
        return sample if self.transform is None else self.transform(sample)
