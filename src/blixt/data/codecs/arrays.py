"""Arrays and tensors whose shape differs from row to row, and the dtypes that numpy and torch share."""

import math
import sys
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.types import Array, Tensor

NDArray = npt.NDArray[Any]
_NUMPY: tuple[type, ...] = (np.ndarray, np.generic)
_U64 = np.dtype("<u8")
_MAX_DIMENSIONS = 32
BFLOAT16 = "bfloat16"


class ArrayCodec:
    """u64 number of dimensions, u64 for each of them, then the items in C order."""

    name = "array"

    def __init__(self, dtype: str) -> None:
        self._dtype = storage_dtype(dtype)
        self._shown = dtype

    def encode(self, value: Any) -> bytes:
        """Return shape and items."""
        array = as_array(value.array if isinstance(value, Array) else value)
        if array is None:
            raise TypeError(f"expected {self._shown}[varying], got {type(value).__name__}")
        return pack(array, self._dtype, self._shown)

    def decode(self, stored: memoryview) -> Any:
        """Return a copy of the array."""
        return unpack(stored, self._dtype)


class TensorCodec:
    """As arrays, read back as tensors where torch is installed."""

    name = "tensor"

    def __init__(self, dtype: str) -> None:
        self._dtype = storage_dtype(dtype)
        self._shown = dtype

    def encode(self, value: Any) -> bytes:
        """Return shape and items."""
        tensor = value.tensor if isinstance(value, Tensor) else value
        if not is_tensor(tensor):
            raise TypeError(f"expected a tensor of {self._shown}[varying], got {type(tensor).__name__}")
        if tensor_dtype(tensor) != self._shown:
            raise ValueError(f"expected a tensor of {self._shown}[varying], got {tensor_dtype(tensor)}")
        return pack(tensor_bits(tensor), self._dtype, self._shown)

    def decode(self, stored: memoryview) -> Any:
        """Return the tensor."""
        return to_tensor(unpack(stored, self._dtype), self._shown)


def pack(array: NDArray, dtype: np.dtype[Any], shown: str) -> bytes:
    """Return an array as it is stored.

    Raises:
        ValueError: when it has another dtype.
    """
    if array.dtype != dtype:
        raise ValueError(f"expected {shown}[varying], got {array.dtype}{list(array.shape)}")
    header = np.array([array.ndim, *array.shape], _U64).tobytes()
    return header + little_endian(array).tobytes()


def unpack(stored: memoryview, dtype: np.dtype[Any]) -> NDArray:
    """Return a stored array, as a copy in this machine's byte order.

    Raises:
        ValueError: when the bytes are no such array.
    """
    ndim = int.from_bytes(stored[:8], "little")
    if ndim > _MAX_DIMENSIONS or len(stored) < 8 + 8 * ndim:
        raise ValueError(f"an array cannot have {ndim} dimensions in {len(stored)} bytes")
    shape = np.frombuffer(stored, _U64, ndim, 8).tolist()
    items = stored[8 + 8 * ndim :]
    if math.prod(shape) * dtype.itemsize != len(items) or max(shape, default=0) >= 1 << 62:
        raise ValueError(f"an array of {dtype} and shape {shape} does not take {len(items)} bytes")
    return native(np.frombuffer(items, dtype.newbyteorder("<")).reshape(shape)).copy()


def as_array(leaf: Any) -> NDArray | None:
    """Return numpy arrays, numpy scalars and tensors as an array, everything else as None."""
    if isinstance(leaf, _NUMPY):
        return native(np.asarray(leaf))
    return tensor_bits(leaf) if is_tensor(leaf) else None


def native(array: NDArray) -> NDArray:
    """Return the array in this machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def little_endian(array: NDArray) -> NDArray:
    """Return the array in little-endian byte order, in which it is stored."""
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("<"))


def storage_dtype(dtype: str) -> np.dtype[Any]:
    """Return the numpy dtype in which values of a column's dtype are held; bfloat16 as its bits."""
    return np.dtype("uint16" if dtype == BFLOAT16 else dtype)


def is_tensor(leaf: Any) -> bool:
    """Whether something is a torch tensor, asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(leaf, torch.Tensor)


def tensor_dtype(tensor: Any) -> str:
    """Return a tensor's dtype by name."""
    return str(tensor.dtype).removeprefix("torch.")


def tensor_bits(tensor: Any) -> NDArray:
    """Return a tensor's values as an array; bfloat16 as its bits."""
    plain = tensor.detach().cpu()
    if tensor_dtype(plain) == BFLOAT16:
        plain = plain.view(sys.modules["torch"].uint16)
    return np.asarray(plain.numpy())


def to_tensor(array: NDArray, dtype: str) -> Any:
    """Return an array as a tensor that shares its memory; without torch an array, bfloat16 widened."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return (array.astype(np.uint32) << 16).view(np.float32) if dtype == BFLOAT16 else array
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == BFLOAT16 else tensor
