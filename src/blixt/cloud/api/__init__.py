"""The HTTP API: FastAPI over the cloud's rooms, one file a resource.

Every route declares what it does to which kind (`allow`) or that it is open to all (`public`); an undeclared
route stops the server at start.
"""

from blixt.cloud.api.access import allow, public, websocket_principal
from blixt.cloud.api.app import build_app
from blixt.cloud.api.context import Cloud, Registry, open_cloud
from blixt.cloud.api.sse import sse_event, sse_response

__all__ = [
    "Cloud",
    "Registry",
    "allow",
    "build_app",
    "open_cloud",
    "public",
    "sse_event",
    "sse_response",
    "websocket_principal",
]
