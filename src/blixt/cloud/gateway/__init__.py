"""The one public door of the cloud: HTTP, WebSocket and event streams to the API, Studios and deployments.

The runtime fills a `RouteTable` and gives a `Dialer` that opens a `Stream` to a port in an allocation; the
`Gateway` does the rest without touching a database: routing, admission, holding requests while a deployment
wakes, choosing replicas, framing, back-pressure, deadlines. `Gateway.stats()` is what the autoscaler reads.
"""

from blixt.cloud.gateway.channel import connect_tcp
from blixt.cloud.gateway.errors import GatewayStartError, UnknownStudio
from blixt.cloud.gateway.gateway import Gateway
from blixt.cloud.gateway.lanes import Stats
from blixt.cloud.gateway.limits import Limits
from blixt.cloud.gateway.routing import Backend, RouteTable, StudioApp, StudioRoute, Target, studio_label
from blixt.cloud.gateway.streams import Dialer, Stream

__all__ = [
    "Backend",
    "Dialer",
    "Gateway",
    "GatewayStartError",
    "Limits",
    "RouteTable",
    "Stats",
    "Stream",
    "StudioApp",
    "StudioRoute",
    "Target",
    "UnknownStudio",
    "connect_tcp",
    "studio_label",
]
