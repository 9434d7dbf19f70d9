"""Which format lies at a location, and its reader."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blixt.data.errors import FormatError
from blixt.data.foreign import parquet, webdataset
from blixt.data.foreign.huggingface import HuggingFaceDataset
from blixt.data.foreign.litdata.dataset import LitDataDataset
from blixt.data.foreign.mds import MDSDataset
from blixt.data.foreign.paths import find
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.store import Credentials, NotFoundError, open_store

FORMATS: dict[str, Callable[..., ForeignDataset]] = {
    "litdata": LitDataDataset,
    "mds": MDSDataset,
    "webdataset": webdataset.WebDataset,
    "parquet": parquet.ParquetDataset,
    "huggingface": HuggingFaceDataset,
}


def open_foreign(
    location: str | Path,
    format: str | None = None,
    *,
    credentials: Credentials = None,
    options: Mapping[str, str] | None = None,
    **arguments: Any,
) -> ForeignDataset:
    """Open a dataset of another library.

    Args:
        location: the folder, file or pattern.
        format: `litdata`, `mds`, `webdataset`, `parquet` or `huggingface`; found out when None.
        credentials, options: for a remote store; see `open_store`.
        arguments: for the reader of that format.

    Raises:
        FormatError: when there is no such dataset.
        ValueError: when the format is not known.
    """
    name = format or detect(location, credentials, options)
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    if name != "huggingface":
        arguments |= {"credentials": credentials, "options": options}
    return FORMATS[name](location, **arguments)


def detect(
    location: str | Path, credentials: Credentials = None, options: Mapping[str, str] | None = None
) -> str:
    """Return the name of the format that lies at a location.

    Raises:
        FormatError: when it is none that is known.
    """
    for name, suffixes in (("parquet", parquet.SUFFIXES), ("webdataset", webdataset.SUFFIXES)):
        if str(location).endswith(suffixes):
            return name
    store = open_store(location, credentials=credentials, options=options)
    try:
        index = json.loads(store.get("index.json"))
    except (NotFoundError, ValueError):
        index = {}
    if "chunks" in index:
        return "litdata"
    if "shards" in index and "version" in index and "format" not in index:
        return "mds"
    if store.size("dataset_info.json") is not None and store.size("state.json") is not None:
        return "huggingface"
    for name, suffixes in (("parquet", parquet.SUFFIXES), ("webdataset", webdataset.SUFFIXES)):
        try:
            find(location, suffixes, credentials, options)
        except FormatError:
            continue
        return name
    raise FormatError(
        f"{location} holds no dataset of a known format ({', '.join(FORMATS)}); check the path, or say which "
        "format it is"
    )
