"""One safetensors file, mapped: 8 bytes of header length, a JSON header, the numbers end to end.

Read by hand rather than by the library, so that every tensor is a view of the file's own pages and every
damaged file is described: the format is https://github.com/huggingface/safetensors#format.
"""

import json
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError
from blixt.llm.weights.mapped import MappedFile
from blixt.llm.weights.source import TensorInfo

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_HEADER = 100_000_000


class SafetensorsFile:
    """The tensors of one file.

    Args:
        path: The file.

    Attributes:
        where: The file.
        infos: Shape and dtype of every tensor.
        metadata: The header's own texts, such as `{"format": "pt"}`.

    Raises:
        WeightsError: It is missing, truncated, or its header is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.where = path
        self._file = MappedFile(path)
        header, self.data_start = self._read_header()
        self.metadata = cast("dict[str, str]", header.pop("__metadata__", None) or {})
        self.infos: dict[str, TensorInfo] = {}
        self._starts: dict[str, int] = {}
        spans = sorted((self._add(name, entry) for name, entry in header.items()), key=lambda span: span[0])
        self._check_spans(spans)

    def get(self, name: str) -> Tensor:
        """A tensor, as a view of the file's pages."""
        info = self.infos[name]
        return self._file.tensor(self.data_start + self._starts[name], info.dtype, info.shape)

    def file_of(self, name: str) -> Path:
        """This file."""
        return self.where

    def will_need(self) -> None:
        """Let the system read ahead."""
        self._file.will_need()

    def _read_header(self) -> tuple[dict[str, Any], int]:
        size = self._file.size
        length = int.from_bytes(self._file.bytes[:8], "little")
        if size < 8 or not 2 <= length <= _MAX_HEADER:
            raise WeightsError(
                f"{self.where} does not begin with a safetensors header: is it another format?"
            )
        if 8 + length > size:
            raise WeightsError(
                f"{self.where} is truncated: its header alone needs {8 + length} bytes, the file has {size}"
            )
        try:
            header: Any = json.loads(self._file.bytes[8 : 8 + length])
        except (ValueError, RecursionError):
            raise WeightsError(f"{self.where} is damaged: its header is not JSON") from None
        if not isinstance(header, dict):
            raise WeightsError(f"{self.where} is damaged: its header is not a JSON object")
        return cast("dict[str, Any]", header), 8 + length

    def _add(self, name: str, entry: Any) -> tuple[int, int, str]:
        try:
            dtype, shape = DTYPES.get(entry["dtype"]), tuple(entry["shape"])
            start, end = entry["data_offsets"]
            if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise WeightsError(
                f"{self.where} is damaged: the header's entry for {name} makes no sense"
            ) from None
        if dtype is None:
            raise WeightsError(
                f"{self.where}: {name} has the dtype {entry['dtype']!r}, which is not known here"
            )
        if end - start != prod(shape) * dtype.itemsize:
            raise WeightsError(
                f"{self.where} is damaged: {name} of shape {shape} and dtype {entry['dtype']} "
                f"cannot have {end - start} bytes"
            )
        self.infos[name] = TensorInfo.plain(shape, dtype)
        self._starts[name] = start
        return start, end, name

    def _check_spans(self, spans: list[tuple[int, int, str]]) -> None:
        at = 0
        for start, end, name in spans:
            if start != at:
                raise WeightsError(
                    f"{self.where} is damaged: {name} does not begin where the tensor before ends"
                )
            at = end
        size, wanted = self._file.size, self.data_start + at
        if size < wanted:
            first = next(name for _, end, name in spans if self.data_start + end > size)
            raise WeightsError(
                f"{self.where} is truncated: it has {size} of {wanted} bytes, {first} is the first one cut "
                "off; download or save it again"
            )
        if size > wanted:
            raise WeightsError(f"{self.where} is damaged: {size - wanted} bytes follow the last tensor")
