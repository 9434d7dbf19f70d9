"""Reading logs: what is there, or what comes, across restarts of the server without hole or duplicate."""

from collections.abc import Iterator

from blixt.client.client import Client
from blixt.client.errors import ServerUnreachable
from blixt.client.lines import iter_events
from blixt.client.types import LogLine
from blixt.client.watch import Outage

_QUIET_S = 40.0  # the server sends a keep-alive every 15 s: longer silence means a dead connection


def read_logs(
    client: Client,
    path: str,
    *,
    follow: bool,
    since: int | str = 0,
    params: dict[str, str | int] | None = None,
) -> Iterator[LogLine]:
    """Yield the pieces of a log in order.

    Args:
        client: The connection.
        path: The API path of the log.
        follow: Go on until the work ends, connecting again where it broke off; else stop at what is there.
        since: Where to begin: the `offset` of the last piece that was seen.
        params: More query parameters, such as `{"rank": 1}`.
    """
    outage = Outage()
    while True:
        query = {"follow": int(follow), "since": since, **(params or {})}
        try:
            with client.http.stream("GET", path, params=query, read_timeout_s=_QUIET_S) as response:
                for event in iter_events(response.iter_bytes()):
                    outage.over()
                    if event.name == "end":
                        return
                    if event.name == "log":
                        since = int(event.id) if event.id.isdecimal() else event.id
                        yield LogLine(str(event.data["text"]), since, int(event.data.get("rank") or 0))
            if not follow:
                return
            outage.wait(ServerUnreachable("The server closed the log before its end.", "Follow it again."))
        except ServerUnreachable as error:
            if not follow:
                raise
            outage.wait(error)
