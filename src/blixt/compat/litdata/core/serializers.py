"""LitData's serializers as a base for your own: `deserialize` reads leaves of that type name in its files."""

from abc import ABC, abstractmethod
from typing import Any


class Serializer(ABC):
    """How values of one type become bytes and back."""

    @abstractmethod
    def serialize(self, data: Any) -> tuple[bytes, str | None]:
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
