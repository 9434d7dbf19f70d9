"""What a loop needs to send answers."""

from abc import ABC, abstractmethod
from typing import Any


class MessageTransport(ABC):
    """Carries `(uid, (data, status, response type, worker id))` from a worker to whoever asked."""

    @abstractmethod
    def send(self, item: Any, consumer_id: int) -> None:
        """Send one message to one of the askers."""

    @abstractmethod
    async def areceive(self, consumer_id: int | None = None, timeout: float | None = None) -> Any:
        """The next message for an asker."""

    def close(self, **kwargs: Any) -> None:  # noqa: B027  # most have nothing to let go of
        """Let go of what it holds; nothing by default."""
