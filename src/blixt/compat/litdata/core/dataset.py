"""LitData's `StreamingDataset`."""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from blixt.compat.litdata.core.base import StreamingBase
from blixt.compat.litdata.core.downloaders import store_of
from blixt.compat.litdata.core.loaders import BaseItemLoader, ParquetLoader, PyTreeLoader, TokensLoader
from blixt.compat.litdata.core.places import Dir, location_of, store_arguments
from blixt.compat.litdata.core.read import open_rows
from blixt.compat.litdata.core.refuse import UnsupportedArgument, refuse
from blixt.compat.litdata.core.temporal import TemporalArrayLoader, frame_counts, read_window
from blixt.data import Dataset, Rows, Subset
from blixt.data.permute import permute
from blixt.data.subset import subset


class StreamingDataset(StreamingBase):
    """Samples of a dataset that `optimize` wrote, here or LitData's own; also MDS folders and Parquet files.

    The arguments are LitData's. `max_pre_download`, `num_canonical_nodes`, `batch_decode` and
    `item_shuffle_window` are taken and not needed: look-ahead, elastic resume and shuffling over the whole
    dataset are always there. The order of shuffled samples is blixt's.

    Raises:
        FileNotFoundError: when the path is not there.
        ValueError: when it holds no dataset, or an argument is out of range.
        UnsupportedArgument: for `window_direct_io`, item loaders of your own, and options not known here.
    """

    def __init__(
        self,
        input_dir: str | Path | Dir,
        cache_dir: str | Path | Dir | None = None,
        item_loader: BaseItemLoader | None = None,
        shuffle: bool = False,
        drop_last: bool | None = None,
        seed: int = 42,
        serializers: dict[str, Any] | None = None,
        max_cache_size: int | float | str | None = None,
        subsample: float = 1.0,
        encryption: Any = None,
        storage_options: dict[str, Any] | None = None,
        session_options: dict[str, Any] | None = None,
        max_pre_download: int = 2,
        index_path: str | None = None,
        force_override_state_dict: bool = False,
        transform: Callable[..., Any] | list[Callable[..., Any]] | None = None,
        num_canonical_nodes: int | None = None,
        batch_decode: int | str | bool = "auto",
        item_shuffle_window: int | str | None = None,
        window_direct_io: bool = False,
    ) -> None:
        del max_pre_download, num_canonical_nodes, batch_decode, item_shuffle_window, index_path
        _check(shuffle, subsample, item_loader, transform)
        refuse("StreamingDataset", window_direct_io=window_direct_io)
        storage_options = {**(session_options or {}), **(storage_options or {})}
        self.input_dir = input_dir if isinstance(input_dir, Dir) else Dir(path=location_of(input_dir))
        self.item_loader, self.seed, self.encryption = item_loader, seed, encryption
        self.serializers = serializers
        location = location_of(self.input_dir)
        own = store_of(location, storage_options)
        access = {**({} if own else store_arguments(storage_options)), **_cache(cache_dir, max_cache_size)}
        ordering = {"shuffle": shuffle, "seed": seed, **_ranks()}
        rows, self._convert = open_rows(
            own or location, item_loader, serializers, encryption, access, ordering
        )
        if subsample != 1.0:
            rows = subset(rows, _chosen(len(rows), subsample, seed if shuffle else None))
        super().__init__(rows, drop_last)
        self.subsample = subsample
        self.force_override_state_dict = force_override_state_dict
        self._transforms = _listed(transform)

    @property
    def shuffle(self) -> bool:
        """Whether epochs are shuffled."""
        return self.rows.shuffle

    def transform(self, sample: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the sample as the functions given make it; may be overridden."""
        for function in self._transforms:
            sample = function(sample, *args, **kwargs)
        return sample

    def __getitem__(self, index: Any) -> Any:
        """Return one sample by its stored number (shuffle does not matter) or its key, a list for a slice."""
        if isinstance(index, str):
            return self.get_by_key(index)
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self.rows)))]
        if not -len(self.rows) <= index < len(self.rows):
            raise IndexError(f"index {index} is out of range: the dataset has {len(self.rows)} samples")
        return self.transform(self._convert(self.rows.item(int(index) % len(self.rows))))

    def served(self, rows: np.ndarray[Any, Any]) -> list[Any]:
        """Return rows as samples, through `__getitem__` where a subclass has its own."""
        if type(self).__getitem__ is not StreamingDataset.__getitem__:
            return [self[row] for row in rows.tolist()]
        return [self.transform(self._convert(sample)) for sample in self.rows.items(rows)]

    def subset(self, indices: Sequence[int] | slice) -> "StreamingDataset":
        """Return the samples of these numbers as a dataset."""
        return self.with_rows(subset(self.rows, indices))

    def with_rows(self, rows: Rows[Any] | Subset[Any]) -> "StreamingDataset":
        """Return the same dataset over other rows."""
        made = self.__class__.__new__(self.__class__)
        made.__dict__.update(self.__dict__)
        StreamingBase.__init__(made, rows, self.drop_last)
        return made

    def get_by_key(self, key: Any) -> Any:
        """Return the sample of a key, where the dataset was written with `key_fn`.

        Raises:
            KeyError: when no sample has it, or there are no keys.
        """
        rows = self.rows
        if not isinstance(rows, Dataset) or rows.shards.snapshot.keys is None:
            raise KeyError(f"{key!r}: there is no keys/ here; write with key_fn=, or call build_keys_index")
        return self.transform(self._convert(rows.get(key)))

    def frame_counts(self) -> list[int]:
        """Return how many frames each record has, where they were written with `TemporalArrayLoader`.

        Raises:
            ValueError: where they were not.
        """
        return frame_counts(self.rows)

    def read_window(
        self,
        index: int,
        start: int,
        frames: int,
        fields: Sequence[str] | None = None,
        *,
        max_concurrent_reads: int = 8,
    ) -> dict[str, Any]:
        """Return fields (all when None) of a record at the frames `[start, start + frames)`, as copies.

        Raises:
            IndexError: when the window does not lie within the record.
            ValueError: when there is no such field, or samples are not dicts of arrays.
        """
        del max_concurrent_reads  # one range holds them all
        for name, value in (("index", index), ("start", start), ("frames", frames)):
            if type(value) is not int:
                raise TypeError(f"{name} must be an integer.")
        if index < 0 or start < 0 or frames < 1:
            raise IndexError("index/start must be nonnegative and frames must be positive.")
        if index >= len(self.rows):
            raise IndexError("Unknown record index.")
        return read_window(self.rows, self._whole, index, start, frames, fields)

    async def aread_window(
        self,
        index: int,
        start: int,
        frames: int,
        fields: Sequence[str] | None = None,
        *,
        max_concurrent_reads: int = 8,
    ) -> dict[str, Any]:
        """Return what `read_window` does, read in another thread."""
        read = partial(self.read_window, max_concurrent_reads=max_concurrent_reads)
        return await asyncio.to_thread(read, index, start, frames, fields)

    def _whole(self, index: int) -> Any:
        return self._convert(self.rows.item(index))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; with `force_override_state_dict` shuffle and seed stay as given here."""
        mine = {name: value for name, value in self.rows.state_dict().items() if name in ("shuffle", "seed")}
        super().load_state_dict({**state_dict, **(mine if self.force_override_state_dict else {})})

    def reset(self) -> None:
        """Begin anew at the first epoch."""
        self._set(1, 0)


def _check(shuffle: Any, subsample: Any, item_loader: Any, transform: Any) -> None:
    if not isinstance(shuffle, bool):
        raise ValueError(f"Shuffle should be a boolean. Found {shuffle}")
    if not isinstance(subsample, float) or subsample <= 0.0:
        raise ValueError("subsample must be a float with value greater than 0.")
    known = (PyTreeLoader, TokensLoader, ParquetLoader, TemporalArrayLoader)
    if item_loader is not None and type(item_loader) not in known:
        raise UnsupportedArgument(
            f"item_loader={type(item_loader).__name__} is not supported here; "
            f"{', '.join(kind.__name__ for kind in known)} are"
        )
    if not all(map(callable, _listed(transform))):
        raise ValueError(f"Transform should be a callable or a list of callables. Found {transform}")


def _chosen(count: int, share: float, seed: int | None) -> np.ndarray[Any, Any]:
    """Return numbers of a share of all samples: the first, or random ones; above 1 some come again."""
    numbers = np.arange(int(count * share)) % count
    if seed is None:
        return numbers
    return np.random.default_rng(seed).permutation(count)[numbers]


def _ranks() -> dict[str, int]:
    """Return the rank that Lightning's variable gives where torchrun's is not there."""
    rank, size = os.environ.get("GLOBAL_RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or size is None or "RANK" in os.environ:
        return {}
    return {"rank": int(rank), "world_size": int(size)}


def _listed(transform: Any) -> list[Callable[..., Any]]:
    if transform is None:
        return []
    return list(transform) if isinstance(transform, (list, tuple)) else [transform]  # pyright: ignore[reportUnknownArgumentType]


def _cache(cache_dir: Any, max_cache_size: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if cache_dir is not None:
        found["cache_dir"] = location_of(cache_dir)
    if isinstance(max_cache_size, (str, int)) and not isinstance(max_cache_size, bool):
        size = str(max_cache_size)
        found["cache_bytes"] = size + "B" if size[-1:] in "GMK" else max_cache_size
    return found


def train_test_split(
    streaming_dataset: StreamingDataset, splits: list[float], seed: int = 42, shuffle: bool = True
) -> list[StreamingDataset]:
    """Cut a dataset into parts that share no sample.

    Raises:
        ValueError: when the shares are not floats in [0, 1] that make at most 1.
    """
    if any(not isinstance(part, float) for part in splits):
        raise ValueError("Each split should be a float.")
    if not all(0 <= part <= 1 for part in splits):
        raise ValueError("Each Split should be a float with each value in [0,1].")
    if sum(splits) > 1:
        raise ValueError("Splits' sum must be less than 1.")
    rows = streaming_dataset.rows
    total = len(rows)
    sizes = [int(total * part) for part in splits]
    parts: list[StreamingDataset] = []
    for low, high in pairwise(accumulate(sizes, initial=0)):
        chosen = np.arange(low, high)
        if shuffle and high > low:
            chosen = np.sort(permute(chosen, total, seed))
        parts.append(streaming_dataset.with_rows(subset(rows, chosen)))
    return parts
