"""LitData's functions: `optimize`, `map`, `merge_datasets`, `walk` and what belongs to them."""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from blixt import data
from blixt.compat.litdata.core.crypto import encryption_of
from blixt.compat.litdata.core.loader import StreamingDataLoader
from blixt.compat.litdata.core.loaders import BaseItemLoader, PyTreeLoader, TokensLoader
from blixt.compat.litdata.core.places import Dir, location_of, store_arguments
from blixt.compat.litdata.core.readers import BaseReader, Read
from blixt.compat.litdata.core.refuse import UnsupportedArgument, refuse
from blixt.compat.litdata.core.serializers.base import Serializer
from blixt.compat.litdata.core.temporal import TemporalArrayLoader
from blixt.compat.litdata.core.write import OTHER_CONFIG, Stored
from blixt.data.build.executors.ranks import Ranks
from blixt.data.build.mapping import map as map_files
from blixt.data.errors import DatasetExistsError
from blixt.data.foreign import ParquetDataset
from blixt.data.merge import merge
from blixt.data.schema import Schema
from blixt.data.snapshot import load
from blixt.data.store import open_store

__all__ = ["ALL_DONE", "map", "merge_datasets", "optimize", "walk"]
ALL_DONE = "ALL_DONE"
"""Put it into a queue of inputs after the last one."""
_STUDIO = "it works on Lightning's Studios only; give executor='ranks' or 'ray' to blixt.data.optimize"


def optimize(
    fn: Callable[[Any], Any],
    inputs: Sequence[Any] | StreamingDataLoader | None = None,
    output_dir: str | Path | Dir = "optimized_data",
    queue: Any = None,
    input_dir: str | None = None,
    weights: list[int] | None = None,
    chunk_size: int | None = None,
    chunk_bytes: int | str | None = None,
    align_chunking: bool = False,
    compression: str | None = None,
    compression_level: str | None = None,
    compression_batch_size: int | None = None,
    encryption: Any = None,
    num_workers: int | None = None,
    fast_dev_run: bool | int = False,
    num_nodes: int | None = None,
    machine: Any = None,
    num_downloaders: int | None = None,
    num_uploaders: int | None = None,
    reorder_files: bool = True,
    reader: BaseReader | None = None,
    batch_size: int | None = None,
    mode: Literal["append", "overwrite"] | None = None,
    use_checkpoint: bool = False,
    item_loader: BaseItemLoader | None = None,
    start_method: str | None = None,
    optimize_dns: bool | None = None,
    storage_options: dict[str, Any] | None = None,
    keep_data_ordered: bool | None = None,
    verbose: bool = True,
    broadcast_paths: bool = False,
    key_fn: Callable[[Any], Any] | None = None,
    serializers: Mapping[str, Serializer] | None = None,
) -> None:
    """Write what `fn` returns or yields for each input as a dataset of blixt in `output_dir`.

    The arguments are LitData's, and `serializers`: your own by name, which are asked first, as LitData's
    `Cache` has it. Those added to `litdata.streaming.serializers._SERIALIZERS` are asked, too. Shards are
    compressed and encrypted block by block whatever `compression_level` says; `reorder_files`,
    `optimize_dns` and `broadcast_paths` have no meaning here.

    Raises:
        ValueError: when arguments contradict each other.
        RuntimeError: when a dataset is there and `mode` was not given.
        UnsupportedArgument: for `num_nodes`, `machine`, and item loaders of your own.
    """
    del (
        align_chunking,
        compression_level,
        compression_batch_size,
        reorder_files,
        optimize_dns,
        broadcast_paths,
    )
    _check_optimize(inputs, queue, mode, chunk_size, chunk_bytes, batch_size, weights)
    refuse("optimize", _STUDIO, num_nodes=num_nodes if num_nodes != 1 else None, machine=machine)
    if item_loader is not None and type(item_loader) not in (PyTreeLoader, TokensLoader, TemporalArrayLoader):
        raise UnsupportedArgument(
            f"item_loader={type(item_loader).__name__} is not supported; TokensLoader and "
            "TemporalArrayLoader are"
        )
    is_tokens = isinstance(item_loader, TokensLoader)
    function, items = _with_reader(
        fn, inputs if queue is None else iter(queue.get, ALL_DONE), reader, num_workers
    )
    options: dict[str, Any] = {
        "chunk_size": None if is_tokens else chunk_size,  # LitData counts tokens there
        "chunk_bytes": _chunk_bytes(chunk_bytes),
        "weights": weights,
        "batch_size": batch_size,
        "compress": compression,
        "encrypt": encryption_of(encryption),
        "num_workers": num_workers,
        "fast_dev_run": fast_dev_run,
        "num_downloaders": num_downloaders,
        "num_uploaders": num_uploaders,
        "mode": mode,
        "resume": use_checkpoint,
        "start_method": start_method or _start_method(fn),
        "input_dir": None if input_dir is None else location_of(input_dir),
        "key": key_fn,
        "verbose": verbose,
        **store_arguments(storage_options),
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    given |= _of_several_machines()
    check = item_loader.check if isinstance(item_loader, TemporalArrayLoader) else None
    try:
        data.optimize(
            Stored(
                function,
                is_tokens,
                check,
                _columns(output_dir, storage_options) if mode == "overwrite" else None,
                serializers,
            ),
            items,
            location_of(output_dir),
            keep_data_ordered=keep_data_ordered is not False,
            **given,
        )
    except DatasetExistsError as problem:
        raise RuntimeError(
            f"The provided output_dir already contains an optimized dataset ({problem}). HINT: Set "
            "`mode='append'` or `mode='overwrite'`."
        ) from problem
    except data.BuildError as problem:
        if OTHER_CONFIG in str(problem):
            raise ValueError(OTHER_CONFIG) from problem
        raise


def _columns(place: str | Path | Dir, storage_options: dict[str, Any] | None) -> Schema | None:
    """Return the columns of the dataset that is overwritten, if there is one of ours."""
    try:
        return load(open_store(location_of(place), **store_arguments(storage_options))).schema
    except (data.DatasetNotFoundError, data.FormatError):
        return None


def _check_optimize(
    inputs: Any, queue: Any, mode: Any, chunk_size: Any, chunk_bytes: Any, batch_size: Any, weights: Any
) -> None:
    if inputs is not None and queue is not None:
        raise ValueError("You can either provide `inputs` or `queue`, not both.")
    if inputs is None and queue is None:
        raise ValueError("At least one of `inputs` or `queue` must be provided.")
    if mode not in (None, "append", "overwrite"):
        raise ValueError(f"The provided `mode` should be either `append` or `overwrite`. Found {mode}.")
    if chunk_size is None and chunk_bytes is None:
        raise ValueError("Either `chunk_size` or `chunk_bytes` needs to be defined.")
    _check_inputs(inputs, batch_size, weights)


def _check_inputs(inputs: Any, batch_size: Any, weights: Any) -> None:
    if isinstance(inputs, StreamingDataLoader):
        if batch_size is not None:
            raise ValueError(
                "When providing a streaming dataloader, pass the batch_size to the dataloader directly."
            )
        if weights is not None:
            raise ValueError("When providing a streaming dataloader, weights isn't supported.")
    elif inputs is not None and hasattr(inputs, "__len__") and not len(inputs):
        raise ValueError(f"The provided inputs should be non empty. Found {inputs}.")


def _chunk_bytes(size: int | str | None) -> int | str | None:
    return f"{size}B" if isinstance(size, str) and size[-1:].upper() in "GMK" else size


def _start_method(fn: Any) -> str | None:
    """Return "fork" for a function that cannot be sent to another process, such as a local one."""
    try:
        pickle.dumps(fn)
    except (pickle.PicklingError, AttributeError, TypeError):
        return "fork"
    return None


def _of_several_machines() -> dict[str, Any]:
    """Return the executor for this machine's part, where LitData's variables say that there are several."""
    machines = int(os.environ.get("DATA_OPTIMIZER_NUM_NODES") or 1)
    rank = int(os.environ.get("DATA_OPTIMIZER_NODE_RANK") or 0)
    # what is there of this build is the other machines', so it is not to be thrown away
    return {"executor": Ranks(rank, machines), "resume": True} if machines > 1 else {}


def _with_reader(
    fn: Callable[..., Any], inputs: Any, reader: BaseReader | None, num_workers: int | None
) -> tuple[Callable[..., Any], Any]:
    if reader is None:
        return fn, inputs
    return Read(fn, reader), reader.remap_items(inputs, num_workers or os.cpu_count() or 1)


def map(
    fn: Callable[..., Any],
    inputs: Sequence[Any] | StreamingDataLoader,
    output_dir: str | Path | Dir,
    input_dir: str | Path | None = None,
    weights: list[int] | None = None,
    num_workers: int | None = None,
    fast_dev_run: bool | int = False,
    num_nodes: int | None = None,
    machine: Any = None,
    num_downloaders: int | None = None,
    num_uploaders: int | None = None,
    reorder_files: bool = True,
    error_when_not_empty: bool = False,
    reader: BaseReader | None = None,
    batch_size: int | None = None,
    start_method: str | None = None,
    optimize_dns: bool | None = None,
    storage_options: dict[str, Any] | None = None,
    keep_data_ordered: bool | None = None,
    broadcast_paths: bool = False,
) -> None:
    """Call `fn(item, output_dir)` on each input; the files that it writes arrive in `output_dir`.

    Raises:
        ValueError: when arguments contradict each other.
        RuntimeError: when the output must be empty and is not.
        UnsupportedArgument: for `num_nodes` and `machine`.
    """
    del reorder_files, optimize_dns, keep_data_ordered, broadcast_paths
    _check_inputs(inputs, batch_size, weights)
    refuse("map", _STUDIO, num_nodes=num_nodes if num_nodes != 1 else None, machine=machine)
    function, items = _with_reader(fn, inputs, reader, num_workers)
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "weights": weights,
        "batch_size": batch_size,
        "fast_dev_run": fast_dev_run,
        "num_downloaders": num_downloaders,
        "num_uploaders": num_uploaders,
        "resume": False,
        "start_method": start_method or _start_method(fn),
        "input_dir": None if input_dir is None else location_of(input_dir),
        **store_arguments(storage_options),
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    given |= _of_several_machines()
    try:
        map_files(
            function,
            items,
            location_of(output_dir),
            error_when_not_empty=error_when_not_empty,
            **given,
        )
    except DatasetExistsError as problem:
        raise RuntimeError(f"The provided output_dir is not empty: {problem}") from problem


def merge_datasets(
    input_dirs: list[str],
    output_dir: str,
    max_workers: int | None = None,
    storage_options: dict[str, Any] | None = None,
) -> None:
    """Put datasets that `optimize` wrote behind one another.

    Raises:
        ValueError: when there are not two of them, one is none, or their columns differ.
    """
    del max_workers
    if len(input_dirs) == 0:
        raise ValueError("The input directories needs to be defined.")
    if len(input_dirs) == 1:
        raise ValueError("There should be more than 1 input directory")
    if any(location_of(output_dir) == location_of(each) for each in input_dirs):
        raise ValueError("The provided output_dir was found within the input_dirs. This isn't supported.")
    access = store_arguments(storage_options)
    stores = [open_store(location_of(each), **access) for each in input_dirs]
    try:
        merge(stores, open_store(location_of(output_dir), **access))
    except DatasetExistsError as problem:
        raise ValueError("The output_dir already contains an optimized dataset") from problem
    except data.DatasetNotFoundError as problem:
        raise ValueError("One of the provided input_dir doesn't have an index file.") from problem
    except data.SchemaError as problem:
        raise ValueError(
            f"Your are trying to merge datasets with different data formats: {problem}"
        ) from problem


class walk:
    """`os.walk` of a folder: yields (folder, folders, files).

    Args:
        folder: where to begin.
        max_workers: no meaning here.
    """

    def __init__(self, folder: str, max_workers: int | None = None) -> None:
        del max_workers
        self._folder = folder

    def __iter__(self) -> Iterator[tuple[str, list[str], list[str]]]:
        return os.walk(self._folder)


def index_parquet_dataset(
    pq_dir_url: str, cache_dir: str | None = None, storage_options: dict[str, Any] | None = None, **_: Any
) -> None:
    """Check that there are Parquet files: `StreamingDataset` reads them without an index.

    Raises:
        FormatError: when there are none, or one is damaged.
    """
    access = store_arguments(storage_options)
    ParquetDataset(location_of(pq_dir_url), cache_dir=cache_dir, **access)
