"""Opens what lies at a location (ours, LitData's, MDS, Parquet) and gives samples as LitData gives them."""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from blixt.compat.litdata.core.crypto import key_of
from blixt.compat.litdata.core.decoders import AudioDecoder, VideoDecoder
from blixt.compat.litdata.core.loaders import BaseItemLoader, ParquetLoader, TokensLoader
from blixt.compat.litdata.core.over import Over
from blixt.compat.litdata.core.pixels import chw, opened
from blixt.compat.litdata.core.serializers.columns import codecs_for
from blixt.compat.litdata.core.serializers.registry import BUILT_IN, added, reader_of
from blixt.data import Dataset, Rows, TokenDataset
from blixt.data.foreign import LitDataDataset, LitDataTokens, MDSDataset, ParquetDataset
from blixt.data.place import as_store
from blixt.data.schema import Structure
from blixt.data.snapshot import load
from blixt.data.store import NotFoundError, Store

Convert = Callable[[Any], Any]


def open_rows(
    place: str | Store,
    item_loader: BaseItemLoader | None,
    serializers: Mapping[str, Any] | None,
    encryption: Any,
    access: dict[str, Any],
    ordering: dict[str, Any],
) -> tuple[Rows[Any], Convert]:
    """Open the dataset at a location, and return what makes LitData's values of its samples.

    Raises:
        FileNotFoundError: when the folder is not there.
        ValueError: when it holds no dataset.
    """
    location = place if isinstance(place, str) else place.location
    if location.endswith(".parquet") or isinstance(item_loader, ParquetLoader):
        columns = item_loader.columns if isinstance(item_loader, ParquetLoader) else None
        return ParquetDataset(location, columns=columns, **_foreign(access), **ordering), same
    known = {**{name: BUILT_IN[name] for name in _LITDATA}, **added(serializers)}
    own = {name: serializer.deserialize for name, serializer in (serializers or {}).items()}
    kind, formats = _kind(place, access)
    block_size = item_loader.block_size if isinstance(item_loader, TokensLoader) else None
    if kind == "parquet":
        return ParquetDataset(location, **_foreign(access), **ordering), same
    if kind == "mds":
        return MDSDataset(place, decoders=own, **_foreign(access), **ordering), same
    if kind == "litdata":
        if block_size is not None:
            return LitDataTokens(place, block_size, **_foreign(access), **ordering), _to_tensor
        decrypt = encryption.decrypt if encryption is not None else None
        readers = {name: read for name in formats if (read := reader_of(name, known)) is not None}
        found = LitDataDataset(place, decrypt=decrypt, decoders=readers, **_foreign(access), **ordering)
        return found, same if found.temporal is None else _TensorFields(found.temporal.tensors)
    key = key_of(encryption)
    if block_size is not None:
        tokens = TokenDataset(place, block_size, overlap=0, key=key, **access, **ordering)
        blocks = tokens.tokens // block_size  # LitData does not read what is left at the end
        return Over(tokens, blocks, {**tokens.identity, "whole": True}), _tokens_as(tokens)
    schema = load(as_store(place, access.get("credentials"), access.get("options"))).schema
    convert = {**_OURS, **own}
    wanted = {column.name: convert[column.type] for column in schema.columns if column.type in convert}
    options: dict[str, Any] = {"codecs": codecs_for(schema.columns, known), **access, **ordering}
    if not wanted:
        return Dataset(place, key=key, **options), same
    as_files = dict.fromkeys(wanted, False)
    return Dataset(place, key=key, decode=as_files, **options), Converter(schema.structure, wanted)


def _kind(place: str | Store, access: dict[str, Any]) -> tuple[str, list[str]]:
    """Return what a place holds, and for a folder of LitData the formats of its leaves."""
    store = as_store(place, access.get("credentials"), access.get("options"))
    location = store.location
    if store.local is not None and not store.local.exists():
        raise FileNotFoundError(f"The provided dataset path `{location}` does not exist.")
    try:
        index: dict[str, Any] = json.loads(store.get("index.json"))
    except NotFoundError:
        if location.startswith("hf://"):
            return "parquet", []  # a dataset of the hub needs no index
        raise ValueError(
            f"The provided dataset `{location}` doesn't contain any index.json file. HINT: Did you "
            "write it with optimize?"
        ) from None
    if "chunks" in index:
        config: dict[str, Any] = index.get("config") or {}
        return "litdata", list(config.get("data_format") or ())
    return ("mds" if "shards" in index and "format" not in index else "blixt"), []


def _foreign(access: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in access.items()
        if name in ("credentials", "options", "cache_dir", "cache_bytes")
    }


def _to_tensor(array: Any) -> torch.Tensor:
    return torch.as_tensor(array)


def same(sample: Any) -> Any:
    """Return the sample as it is."""
    return sample


class _TokensAs:
    """Blocks as tensors of the stored type, as LitData gives them; travels to workers."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def __call__(self, block: Any) -> Any:
        return _to_tensor(block.astype(self._dtype))


class _TensorFields:
    """Some fields of a record as tensors; travels to workers."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        return {name: _to_tensor(array) if name in self._names else array for name, array in record.items()}


def _tokens_as(tokens: TokenDataset) -> Convert:
    columns = tokens.shards.snapshot.schema.columns
    return _TokensAs(next(column.dtype for column in columns if column.name == tokens.column))


def pil(data: Any) -> Any:
    """Decode an image file to a PIL image."""
    image = opened(bytes(data))
    image.load()
    return image


_LITDATA = (
    *("jpeg", "image", "jpeg_array", "pil", "tifffile", "video", "audio", "graph"),
    *("tensor", "no_header_tensor"),
)
"""The serializers of LitData whose values are others than those of `blixt.data.foreign`."""
_OURS: dict[str, Convert] = {
    "jpeg": chw,
    "image": chw,
    "png": pil,
    "audio": AudioDecoder,
    "video": VideoDecoder,
}


class Converter:
    """Applies functions to some leaves of a sample; travels to workers."""

    def __init__(self, structure: Structure, wanted: Mapping[str, Convert]) -> None:
        self._structure, self._wanted = structure, dict(wanted)

    def __call__(self, sample: Any) -> Any:
        """Return the sample with the functions applied."""
        return self._at(self._structure, sample)

    def _at(self, node: Structure, value: Any) -> Any:
        kind, children = next(iter(node.items()))
        if kind == "leaf":
            return self._wanted[children](value) if children in self._wanted else value
        if kind == "dict":
            fields = cast("dict[str, Structure]", children)
            return {key: self._at(child, value[key]) for key, child in fields.items()}
        items = [
            self._at(child, one) for child, one in zip(cast("list[Structure]", children), value, strict=True)
        ]
        return items if kind == "list" else tuple(items)
