"""Serializers as codecs of columns of our own: how values that are theirs lie in a dataset of blixt."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from blixt.compat.litdata.core.serializers.base import Serializer
from blixt.compat.litdata.core.serializers.registry import reader_of
from blixt.data import types
from blixt.data.codecs import USER
from blixt.data.schema import Column


class Serialized:
    """Writes what a serializer made; the column is named after the format.

    Args:
        name: the format.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, value: bytes) -> bytes:
        """Return the bytes as they are."""
        return value

    def decode(self, stored: memoryview) -> bytes:
        """Return the bytes as they are."""
        return bytes(stored)


class Deserialized(Serialized):
    """Reads with a serializer.

    Args:
        name: the format.
        read: from bytes to the value.
    """

    def __init__(self, name: str, read: Callable[[bytes], Any]) -> None:
        super().__init__(name)
        self._read = read

    def decode(self, stored: memoryview) -> Any:
        """Return the value."""
        return self._read(bytes(stored))


def coded(value: Any, serializers: Mapping[str, Serializer]) -> types.Coded | None:
    """Return a value as the first serializer that takes it writes it, None when there is none."""
    for name, serializer in serializers.items():
        if serializer.can_serialize(value):
            content, kind = serializer.serialize(value)
            return types.Coded(content, Serialized(kind or name))
    return None


def codecs_for(columns: Iterable[Column], serializers: Mapping[str, Serializer]) -> dict[str, types.Codec]:
    """Return codecs for the columns that serializers wrote."""
    names = [column.type.removeprefix(USER) for column in columns if column.type.startswith(USER)]
    readers = {name: reader_of(name, serializers) for name in names}
    return {name: Deserialized(name, read) for name, read in readers.items() if read is not None}
