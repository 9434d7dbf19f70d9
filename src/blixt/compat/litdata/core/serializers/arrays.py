"""Tensors and arrays: 1-D ones without a header, others with their dtype's number and their shape."""

import struct
from typing import Any

import numpy as np
import torch

from blixt.compat.litdata.core.media import Tensor
from blixt.compat.litdata.core.serializers.base import Serialized, Serializer
from blixt.compat.litdata.core.serializers.files import read_file
from blixt.data.foreign.litdata.arrays import NUMPY_DTYPES, array_of, dtype

_TENSOR_NUMBERS = {
    torch.float32: 1,
    torch.float64: 3,
    torch.complex64: 5,
    torch.complex128: 7,
    torch.float16: 9,
    torch.bfloat16: 10,
    torch.uint8: 11,
    torch.int8: 12,
    torch.int16: 14,
    torch.int32: 16,
    torch.int64: 18,
    torch.bool: 19,
    torch.uint16: 20,
}
"""LitData's table has most types twice; it writes the higher number."""
_TORCH_DTYPES = {number: kind for kind, number in _TENSOR_NUMBERS.items()}
_NUMPY_NUMBERS = {np.dtype(name): number for number, name in enumerate(NUMPY_DTYPES)}


class TensorSerializer(Serializer):
    """A tensor of any rank but 1: u32 dtype, rank and dimensions, big-endian; the elements."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        tensor = as_tensor(data).detach().cpu()
        header = struct.pack(
            f">{2 + tensor.ndim}I", _TENSOR_NUMBERS[tensor.dtype], tensor.ndim, *tensor.shape
        )
        return header + tensor.numpy().tobytes(), None

    def deserialize(self, data: bytes) -> torch.Tensor:
        """Return the value."""
        return torch.as_tensor(array_of("tensor", bytes(data)).copy())

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        if isinstance(data, Tensor):
            return data.array is not None and len(data.array.shape) != 1
        return isinstance(data, torch.Tensor) and data.ndim != 1


class NoHeaderTensorSerializer(Serializer):
    """A 1-D tensor: its elements; the format's name has the number of the dtype."""

    def __init__(self) -> None:
        self._dtype: torch.dtype | None = None

    def setup(self, metadata: str) -> None:
        """Hear the format's name, such as `no_header_tensor:18`."""
        number = int(metadata.partition(":")[2])
        self._dtype = _TORCH_DTYPES.get(number) or _TORCH_DTYPES[number + 1]

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        tensor = as_tensor(data)
        return tensor.numpy().tobytes(), f"no_header_tensor:{_TENSOR_NUMBERS[tensor.dtype]}"

    def deserialize(self, data: bytes) -> torch.Tensor:
        """Return the value."""
        assert self._dtype is not None, "setup must hear the format's name first"
        return (
            torch.frombuffer(bytearray(data), dtype=self._dtype)
            if data
            else torch.empty(0, dtype=self._dtype)
        )

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        if isinstance(data, Tensor):
            if data.array is not None:
                return len(data.array.shape) == 1
            return (data.path is not None or data.bytes is not None) and data.dtype is not None
        return isinstance(data, torch.Tensor) and data.ndim == 1


class NumpySerializer(Serializer):
    """An array of rank 2 or more: u32 dtype, rank and dimensions, little-endian; the elements."""

    def serialize(self, data: np.ndarray[Any, Any]) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        header = np.array([_NUMPY_NUMBERS[data.dtype], data.ndim, *data.shape], np.uint32)
        return header.tobytes() + data.tobytes(), None

    def deserialize(self, data: bytes) -> np.ndarray[Any, Any]:
        """Return the value."""
        return array_of("numpy", bytes(data)).copy()

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, np.ndarray) and data.ndim > 1


class NoHeaderNumpySerializer(Serializer):
    """A 1-D array: its elements; the format's name has the number of the dtype."""

    def __init__(self) -> None:
        self._dtype: np.dtype[Any] | None = None

    def setup(self, metadata: str) -> None:
        """Hear the format's name, such as `no_header_numpy:3`."""
        self._dtype = dtype("numpy", int(metadata.partition(":")[2]))

    def serialize(self, data: np.ndarray[Any, Any]) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        return data.tobytes(), f"no_header_numpy:{_NUMPY_NUMBERS[data.dtype]}"

    def deserialize(self, data: bytes) -> np.ndarray[Any, Any]:
        """Return the value."""
        assert self._dtype is not None, "setup must hear the format's name first"
        return np.frombuffer(data, self._dtype).copy()

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, np.ndarray) and data.ndim == 1


def as_tensor(item: Any) -> torch.Tensor:
    """Return the tensor that something is, wraps, or whose bytes it has.

    Raises:
        TypeError: when there are only bytes, and no dtype.
    """
    if not isinstance(item, Tensor):
        return torch.as_tensor(item)
    if item.array is not None:
        tensor = torch.as_tensor(item.array)
        return tensor if item.dtype is None else tensor.to(item.dtype)
    if item.dtype is None:
        raise TypeError("Tensor(path=...) / Tensor(bytes=...) requires dtype=.")
    return torch.frombuffer(bytearray(read_file(item)[0]), dtype=item.dtype)
