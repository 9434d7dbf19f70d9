"""A GGUF file as a source of tensors: plain ones mapped, quantised ones made as they are asked for."""

import re
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blixt.llm.errors import MissingPackageError, WeightsError
from blixt.llm.weights.gguf.header import TensorEntry, parse_header
from blixt.llm.weights.mapped import MappedFile
from blixt.llm.weights.source import Shards, Source, TensorInfo

PLAIN = {
    0: torch.float32,
    1: torch.float16,
    24: torch.int8,
    25: torch.int16,
    26: torch.int32,
    27: torch.int64,
    28: torch.float64,
    30: torch.bfloat16,
}
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


class GGUFFile:
    """The tensors and metadata of one GGUF file.

    Args:
        path: The file.

    Attributes:
        where: The file.
        infos: Of every tensor: shape, dtype that `get` gives (float32 for quantised ones), kind of blocks.
        metadata: Values by key: `general.*`, `<architecture>.*`, `tokenizer.*`.

    Raises:
        WeightsError: It is missing, truncated, damaged, or has a kind of numbers that is not known.
    """

    def __init__(self, path: Path) -> None:
        self.where = path
        self._file = MappedFile(path)
        header = parse_header(self._file.bytes, path)
        self.metadata = header.metadata
        self._data_start = header.data_start
        self._entries = {entry.name: entry for entry in header.tensors}
        self.infos = {entry.name: self._info(entry) for entry in header.tensors}
        if len(self._entries) != len(header.tensors):
            raise WeightsError(f"{path} is damaged: it names a tensor twice")

    def get(self, name: str) -> Tensor:
        """A tensor: a view of the file when its numbers are plain, else de-quantised to float32."""
        entry, info = self._entries[name], self.infos[name]
        start = self._data_start + entry.offset
        if entry.kind in PLAIN:
            return self._file.tensor(start, info.dtype, info.shape)
        return _dequantise(self._file.tensor(start, torch.uint8, (info.size_bytes,)), entry)

    def blocks(self, name: str) -> Tensor:
        """A quantised tensor's bytes as they are, (rows, bytes of a row) uint8, mapped."""
        entry, info = self._entries[name], self.infos[name]
        rows = prod(entry.shape[:-1])
        return self._file.tensor(
            self._data_start + entry.offset, torch.uint8, (rows, info.size_bytes // max(rows, 1))
        )

    def file_of(self, name: str) -> Path:
        """This file."""
        return self.where

    def will_need(self) -> None:
        """Let the system read ahead."""
        self._file.will_need()

    def _info(self, entry: TensorEntry) -> TensorInfo:
        if entry.kind in PLAIN:
            info = TensorInfo.plain(entry.shape, PLAIN[entry.kind])
        else:
            label, per_block, block_bytes = _block_format(entry, self.where)
            info = TensorInfo(entry.shape, torch.float32, label, prod(entry.shape) // per_block * block_bytes)
        end = self._data_start + entry.offset + info.size_bytes
        if end > self._file.size:
            raise WeightsError(
                f"{self.where} is truncated: {entry.name} ends at byte {end}, the file has "
                f"{self._file.size}; download it again"
            )
        return info


class SplitGGUF(Shards):
    """A model in several GGUF files: `...-00001-of-00003.gguf` and its siblings.

    Attributes:
        metadata: The first file's.
    """

    def __init__(self, files: list[GGUFFile]) -> None:
        super().__init__(files[0].where, files)
        self.metadata = files[0].metadata


def open_gguf(path: str | Path) -> GGUFFile | SplitGGUF:
    """Open a GGUF file, with its siblings when it is one of several.

    Raises:
        WeightsError: It or a sibling is missing or damaged.
    """
    path = Path(path)
    split = _SPLIT.fullmatch(path.name)
    if split is None:
        return GGUFFile(path)
    stem, _, count = split.groups()
    siblings = [path.with_name(f"{stem}-{i:05}-of-{count}.gguf") for i in range(1, int(count) + 1)]
    return SplitGGUF([GGUFFile(sibling) for sibling in siblings])


def metadata_of(source: Source) -> dict[str, Any] | None:
    """The metadata of a GGUF source; None for other formats."""
    return source.metadata if isinstance(source, GGUFFile | SplitGGUF) else None


@cache
def gguf_package() -> Any:
    """The `gguf` package, which knows the block formats.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise MissingPackageError("quantised GGUF needs the package gguf: pip install 'blixt[llm]'") from None
    return gguf


def _block_format(entry: TensorEntry, where: Path) -> tuple[str, int, int]:
    """Name, numbers a block, bytes a block."""
    gguf = gguf_package()
    try:
        kind = gguf.GGMLQuantizationType(entry.kind)
    except ValueError:
        raise WeightsError(
            f"{where}: {entry.name} has numbers of kind {entry.kind}, which this gguf does not know"
        ) from None
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if not entry.shape or entry.shape[-1] % per_block:
        raise WeightsError(f"{where} is damaged: rows of {entry.name} are no whole blocks of {kind.name}")
    return str(kind.name), int(per_block), int(block_bytes)


def _dequantise(raw: Tensor, entry: TensorEntry) -> Tensor:
    gguf = gguf_package()
    kind = gguf.GGMLQuantizationType(entry.kind)
    rows = raw.reshape(prod(entry.shape[:-1]), -1).numpy()
    try:
        numbers = gguf.quants.dequantize(rows, kind)
    except NotImplementedError:
        raise WeightsError(
            f"{entry.name} is quantised as {kind.name}, which cannot be de-quantised"
        ) from None
    return torch.as_tensor(numbers).reshape(entry.shape)
