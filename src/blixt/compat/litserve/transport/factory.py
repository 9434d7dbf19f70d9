"""A transport from its description."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from .base import MessageTransport
from .process_transport import MPQueueTransport


class TransportConfig(BaseModel):
    """What a transport should be like.

    Attributes:
        transport_type: "mp"; there is no other here.
        num_consumers: How many askers it has.
        manager: Makes the queues: a `multiprocessing.Manager()`, or the module `queue`.
    """

    transport_type: Literal["mp"] = "mp"
    num_consumers: int = Field(1, ge=1)
    manager: Any = None


def create_transport_from_config(config: TransportConfig) -> MessageTransport:
    """Make it.

    Raises:
        ValueError: Nobody knows the type.
    """
    if config.transport_type != "mp":  # pyright: ignore[reportUnnecessaryComparison]
        raise ValueError(f"Invalid transport type: {config.transport_type}; write 'mp'.")
    return _create_mp_transport(config)


def _create_mp_transport(config: TransportConfig) -> MPQueueTransport:
    return MPQueueTransport(config.manager, [config.manager.Queue() for _ in range(config.num_consumers)])
