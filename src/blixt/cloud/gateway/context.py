"""What every connection of one gateway shares."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blixt.cloud.gateway.lanes import Lanes
from blixt.cloud.gateway.limits import Limits
from blixt.cloud.gateway.routing import RouteTable, Target
from blixt.cloud.gateway.sessions import Sessions
from blixt.cloud.gateway.trust import Trust
from blixt.cloud.gateway.upstream import Pool

if TYPE_CHECKING:
    from blixt.cloud.gateway.connection import Connection

API_TARGET = Target("", 0)
"""The API's unix socket, written as a target so that one pool serves all."""


@dataclass(slots=True)
class Context:
    """The shared parts; `closing` is set when the gateway drains."""

    limits: Limits
    durations: tuple[float, ...]
    domain: str
    table: RouteTable
    lanes: Lanes
    pool: Pool
    trust: Trust
    sessions: Sessions
    clock: Callable[[], float]
    connections: "set[Connection]" = field(default_factory=set["Connection"])
    closing: bool = False
