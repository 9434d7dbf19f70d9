"""Opens what lies at a location (ours, LitData's, MDS, Parquet) and gives samples as LitData gives them."""

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch

from blixt.compat.litdata.core.crypto import key_of
from blixt.compat.litdata.core.loaders import BaseItemLoader, ParquetLoader, TokensLoader
from blixt.data import Dataset, Rows, TokenDataset
from blixt.data.foreign import LitDataDataset, LitDataTokens, MDSDataset, ParquetDataset
from blixt.data.place import as_store
from blixt.data.schema import Structure
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
    own = {name: serializer.deserialize for name, serializer in (serializers or {}).items()}
    kind = _kind(place, access)
    block_size = item_loader.block_size if isinstance(item_loader, TokensLoader) else None
    if kind == "parquet":
        return ParquetDataset(location, **_foreign(access), **ordering), same
    if kind == "mds":
        return MDSDataset(place, decoders=own, **_foreign(access), **ordering), same
    if kind == "litdata":
        if block_size is not None:
            return LitDataTokens(place, block_size, **_foreign(access), **ordering), _to_tensor
        decrypt = encryption.decrypt if encryption is not None else None
        found = LitDataDataset(
            place, decrypt=decrypt, decoders={**_LITDATA, **own}, **_foreign(access), **ordering
        )
        return found, same if found.temporal is None else _TensorFields(found.temporal.tensors)
    key = key_of(encryption)
    if block_size is not None:
        tokens = TokenDataset(place, block_size, overlap=0, key=key, **access, **ordering)
        return WholeBlocks(tokens), _tokens_as(tokens)
    dataset = Dataset(place, key=key, **access, **ordering)
    schema = dataset.shards.snapshot.schema
    known = {**_OURS, **own}
    wanted = {column.name: known[column.type] for column in schema.columns if column.type in known}
    if not wanted:
        return dataset, same
    as_files = dict.fromkeys(wanted, False)
    return Dataset(place, key=key, decode=as_files, **access, **ordering), Converter(schema.structure, wanted)


def _kind(place: str | Store, access: dict[str, Any]) -> str:
    store = as_store(place, access.get("credentials"), access.get("options"))
    location = store.location
    if store.local is not None and not store.local.exists():
        raise FileNotFoundError(f"The provided dataset path `{location}` does not exist.")
    try:
        index = json.loads(store.get("index.json"))
    except NotFoundError:
        if location.startswith("hf://"):
            return "parquet"  # a dataset of the hub needs no index
        raise ValueError(
            f"The provided dataset `{location}` doesn't contain any index.json file. HINT: Did you "
            "write it with optimize?"
        ) from None
    if "chunks" in index:
        return "litdata"
    return "mds" if "shards" in index and "format" not in index else "blixt"


def _foreign(access: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in access.items()
        if name in ("credentials", "options", "cache_dir", "cache_bytes")
    }


class WholeBlocks(Rows[Any]):
    """The whole blocks of a token stream, as LitData counts them: what is left at the end is not read."""

    def __init__(self, tokens: TokenDataset) -> None:
        self.tokens = tokens
        super().__init__(
            rows=tokens.tokens // tokens.block_size,
            row_bytes=tokens.row_bytes,
            identity={**tokens.identity, "whole": True},
            shuffle=tokens.shuffle,
            seed=tokens.seed,
            window=tokens.window,
            rank=tokens.ranks_given[0],
            world_size=tokens.ranks_given[1],
        )

    def gather(self, rows: Any, allocate: Any = np.empty) -> Any:
        """Return blocks as one array."""
        return self.tokens.gather(rows, allocate)

    def item(self, row: int) -> Any:
        """Return one block."""
        return self.tokens.item(row)

    def items(self, rows: Any) -> list[Any]:
        """Return blocks one by one."""
        return self.tokens.items(rows)

    def plan_ahead(self, rows: Any) -> None:
        """Hear which blocks will be read soon."""
        self.tokens.plan_ahead(rows)


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


def chw(data: Any) -> torch.Tensor:
    """Decode an image file to a uint8 tensor `[channels, height, width]`."""
    pixels = np.array(pil(data))
    return _to_tensor(pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def pil(data: Any) -> Any:
    """Decode an image file to a PIL image."""
    from PIL import Image

    image = Image.open(io.BytesIO(bytes(data)))
    image.load()
    return image


def raw_pil(data: Any) -> Any:
    """Decode LitData's raw pixels to a PIL image."""
    from PIL import Image

    width, height, length = np.frombuffer(data[:12], "<u4").tolist()
    return Image.frombytes(
        bytes(data[12 : 12 + length]).decode(), (width, height), bytes(data[12 + length :])
    )


_TORCH_DTYPES = 21
"""How many numbers of dtypes LitData has for tensors."""


class _Tensor:
    """LitData's tensor leaves as tensors."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(self, data: Any) -> torch.Tensor:
        from blixt.data.foreign.litdata.leaves import decoder

        return _to_tensor(decoder(self._kind, False, {}, False)(data).copy())


_LITDATA: dict[str, Convert] = {
    "jpeg": chw,
    "image": chw,
    "pil": raw_pil,
    "tensor": _Tensor("tensor"),
    **{name: _Tensor(name) for name in (f"no_header_tensor:{number}" for number in range(_TORCH_DTYPES))},
}
_OURS: dict[str, Convert] = {"jpeg": chw, "image": chw, "png": pil}


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
