"""The base of all serializers."""

from abc import ABC, abstractmethod
from typing import Any

Serialized = tuple[bytes, str | None]
"""The bytes, and the name of the format where it says more than the serializer's own: `audio:wav`."""


class Serializer(ABC):
    """How values of one type become bytes and back."""

    @abstractmethod
    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and a name for the format or None."""

    @abstractmethod
    def deserialize(self, data: bytes) -> Any:
        """Return the value."""

    @abstractmethod
    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this type."""

    def setup(self, metadata: Any) -> None:
        """Hear the format's name before reading."""
        del metadata
