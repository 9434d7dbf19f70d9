"""Datasets on a Hugging Face hub: their Parquet files found, and written as a dataset of ours."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from blixt.compat.litdata.core.complete import is_complete_dataset
from blixt.compat.litdata.core.functions import optimize
from blixt.compat.litdata.core.places import location_of, store_arguments
from blixt.data.foreign import ParquetDataset
from blixt.data.foreign.convert import Run, convert, runs
from blixt.data.foreign.files import default_cache_dir
from blixt.data.foreign.parquet import ParquetSource
from blixt.data.foreign.paths import find
from blixt.data.store import NotFoundError, StoreError, open_store

_REVISIONS = ("main", "refs/convert/parquet")
"""Where the hub has Parquet files: the owner's own, or those that it made of other kinds."""


def index_hf_dataset(
    dataset_url: str, cache_dir: str | None = None, storage_options: dict[str, Any] | None = None
) -> str:
    """See that there are Parquet files, which `StreamingDataset` reads without an index; return a folder.

    Raises:
        ValueError: for an address that does not begin with hf://.
        FormatError: when there are none.
    """
    if not dataset_url.startswith("hf://"):
        raise ValueError(
            f"Invalid Hugging Face dataset URL: {dataset_url}. URLs must start with 'hf://'. Please check "
            "the URL and try again."
        )
    find(dataset_url, (".parquet",), **store_arguments(storage_options))
    return cache_dir or str(default_cache_dir())


def optimize_hf(
    name: str,
    output_dir: str,
    revision: str | None = None,
    split: str | None = None,
    config: str | None = None,
    chunk_size: int | None = None,
    chunk_bytes: int | str | None = None,
    fn: Callable[[dict[str, Any]], Any] | None = None,
    num_workers: int | None = None,
    columns: list[str] | None = None,
    overwrite: bool = False,
    cache_dir: str | None = None,
    storage_options: dict[str, Any] | None = None,
    **optimize_kwargs: Any,
) -> str:
    """Write a dataset of the hub, its Parquet files or those that the hub made of it, as one of blixt.

    Args:
        name: `owner/name`, or an address that begins with hf://.
        output_dir: the new dataset; what is there is kept unless `overwrite`.
        revision: a branch, tag or commit; found when None.
        split: such as `train`; all files when None.
        config: the dataset's subset.
        chunk_size: samples in a shard.
        chunk_bytes: about how large a shard may grow; 256 MB when neither is given.
        fn: makes a sample of each row, a dict of Python values; the rows as they are when None.
        num_workers: worker processes.
        columns: the columns to read.
        overwrite: write it again when it is there.
        cache_dir: where the Parquet files are kept.
        storage_options: `{"token": ...}`; else HF_TOKEN.
        optimize_kwargs: for `optimize`.

    Returns:
        `output_dir`.

    Raises:
        FileNotFoundError: when there are no such files.
    """
    if not overwrite and is_complete_dataset(output_dir):
        return output_dir
    url = resolve_hf_dataset_url(name, revision, split, config, storage_options)
    dataset = ParquetDataset(url, columns=columns, cache_dir=cache_dir, **store_arguments(storage_options))
    options: dict[str, Any] = {"mode": "overwrite" if overwrite else None, **optimize_kwargs}
    if chunk_size is None:
        options["chunk_bytes"] = chunk_bytes or "256MB"
    given: dict[str, Any] = {
        **{key: value for key, value in options.items() if value is not None},
        **({} if chunk_size is None else {"chunk_size": chunk_size}),
        **({} if num_workers is None else {"num_workers": num_workers}),
    }
    if fn is None:
        convert(dataset, location_of(output_dir), **given)
    else:
        optimize(_Rows(dataset, fn), runs(dataset), output_dir, **given)
    return output_dir


class _Rows:
    """The rows of a run, as dicts, through the user's function; travels to the workers."""

    def __init__(self, dataset: ParquetDataset, fn: Callable[[dict[str, Any]], Any]) -> None:
        self._dataset, self._fn = dataset, fn

    def __call__(self, run: Run) -> Iterator[Any]:
        source, first = self._dataset.source, run[0]
        if not isinstance(source, ParquetSource):
            raise AssertionError(source)
        for part, rows in enumerate(source.part_rows):
            if first < rows:
                for row in source.table(part).slice(first, run[1] - run[0]).to_pylist():
                    yield self._fn(row)
                return
            first -= rows

    def __repr__(self) -> str:
        return f"{getattr(self._fn, '__qualname__', self._fn)!r} of {self._dataset.source.fingerprint}"


def resolve_hf_dataset_url(
    name: str,
    revision: str | None = None,
    split: str | None = None,
    config: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> str:
    """Return the address of the Parquet files of a dataset: `hf://datasets/...{first,second}`.

    Raises:
        FileNotFoundError: when there are none.
    """
    if name.startswith("hf://"):
        return name
    for tried in (revision,) if revision else _REVISIONS:
        base = f"hf://datasets/{name}@{quote(tried, safe='')}"
        try:
            listed = sorted(file for file, _ in open_store(base, **store_arguments(storage_options)).list())
        except (NotFoundError, StoreError):
            continue
        files = [file for file in listed if _is_wanted(PurePosixPath(file), split, config)]
        if files:
            return f"{base}/{{{','.join(files)}}}"
    raise FileNotFoundError(f"No parquet files found for {name!r} (split {split}, config {config}).")


def _is_wanted(file: PurePosixPath, split: str | None, config: str | None) -> bool:
    if file.suffix != ".parquet" or (config is not None and config not in file.parts[:-1]):
        return False
    in_name = split is None or file.name.startswith((f"{split}-", f"{split}.", f"{split}_"))
    return in_name or split in file.parts[:-1]
