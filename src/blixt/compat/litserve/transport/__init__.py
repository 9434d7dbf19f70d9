"""The way of answers from a loop to the front."""

from .base import MessageTransport
from .process_transport import MPQueueTransport

__all__ = ["MPQueueTransport", "MessageTransport"]
