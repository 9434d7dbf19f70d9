"""Numbers, text, bytes, JSON, files, pickles."""

import os
import pickle
import struct
from typing import Any

import numpy as np

from blixt.compat.litdata.core.media import File, Media, Text, extension
from blixt.compat.litdata.core.serializers.base import Serialized, Serializer
from blixt.compat.litdata.core.serializers.files import read_file
from blixt.compat.litdata.core.serializers.nested import encode
from blixt.data.foreign.litdata import nested

_STRUCTS: dict[type, str] = {np.int64: "<q", np.float64: "<d"}


class StringSerializer(Serializer):
    """Text that is no path of a file, as UTF-8."""

    def serialize(self, data: str) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        return data.encode(), None

    def deserialize(self, data: bytes) -> str:
        """Return the value."""
        return bytes(data).decode()

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, str) and not os.path.isfile(data)


class TextSerializer(Serializer):
    """`Text(...)`: text, or a text file as it is."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        if isinstance(data, Text):
            if data.text is not None:
                return data.text.encode(), "text"
            if data.path is None and data.bytes is None:
                raise TypeError("Text needs path=, bytes=, or text=.")
        return read_file(data)[0], "text"

    def deserialize(self, data: bytes) -> str:
        """Return the value."""
        return bytes(data).decode()

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, Text)


class BytesSerializer(Serializer):
    """Bytes as they are."""

    def serialize(self, data: bytes) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        return data, None

    def deserialize(self, data: bytes) -> bytes:
        """Return the value."""
        return data

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, bytes)


class NumericSerializer:
    """One number of a numpy type, little-endian.

    Args:
        dtype: the type.
    """

    def __init__(self, dtype: type) -> None:
        self.dtype = dtype
        self.size = np.dtype(dtype).itemsize

    def serialize(self, data: Any) -> Serialized:
        """Return the number's bytes."""
        if self.dtype in _STRUCTS:
            return struct.pack(_STRUCTS[self.dtype], data), None
        return self.dtype(data).tobytes(), None

    def deserialize(self, data: bytes) -> Any:
        """Return the number: a Python one for int64 and float64, else numpy's."""
        if self.dtype in _STRUCTS:
            return struct.unpack(_STRUCTS[self.dtype], data)[0]
        return np.frombuffer(data, self.dtype)[0]


class IntegerSerializer(NumericSerializer, Serializer):
    """An int, as int64."""

    def __init__(self) -> None:
        super().__init__(np.int64)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, int)


class FloatSerializer(NumericSerializer, Serializer):
    """A float, as float64."""

    def __init__(self) -> None:
        super().__init__(np.float64)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, float)


class BooleanSerializer(Serializer):
    """True or False, as one byte."""

    size = 1

    def serialize(self, data: bool) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        return (b"\x01" if data else b"\x00"), None

    def deserialize(self, data: bytes) -> bool:
        """Return the value."""
        return data[0] != 0

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, bool)


class JsonLeaf:
    """A list or dict that is stored as one value, whatever its length.

    Args:
        value: the list or dict.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class JsonSerializer(Serializer):
    """A list or dict in a `JsonLeaf`."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        return encode(data.value if isinstance(data, JsonLeaf) else data), "json"

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        return nested.decode(data)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, JsonLeaf)


class FileSerializer(Serializer):
    """`File(...)`, or a path: the file as it is; read back as bytes."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        if isinstance(data, Media):
            content, kind = read_file(data)
            return content, f"file:{kind}" if kind else "file"
        with open(data, "rb") as file:
            return file.read(), f"file:{extension(data)}"

    def deserialize(self, data: bytes) -> bytes:
        """Return the value."""
        return bytes(data)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, File)


class PickleSerializer(Serializer):
    """Any object, pickled. Nothing uses it unless you name it: reading a pickle runs its author's code."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        return pickle.dumps(data), None

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        return pickle.loads(data)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return True
