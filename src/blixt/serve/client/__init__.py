"""Clients of a service: call it, stream from it, wait for it; a retry never repeats work in secret."""

from blixt.serve.client.aio import AsyncClient
from blixt.serve.client.errors import ClientError, RemoteError, ServiceUnreachable, StreamBroken
from blixt.serve.client.retry import Retry
from blixt.serve.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "RemoteError",
    "Retry",
    "ServiceUnreachable",
    "StreamBroken",
]
