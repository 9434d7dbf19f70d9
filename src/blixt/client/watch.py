"""Waiting without polling: look once, then follow the server's change log until the state is reached."""

import time
from collections.abc import Callable, Iterator

from blixt.client.client import Client
from blixt.client.errors import NotFound, ServerUnreachable, WaitTimeout
from blixt.client.http import backoff_s
from blixt.client.lines import Event, iter_events
from blixt.client.types import ObjectData

PATIENCE_S = 60.0
"""How long a server that has gone away may take to come back before a wait gives up."""
_QUIET_S = 30.0  # longer than the server's keep-alive: silence beyond it means a dead connection


def wait_until(
    client: Client, plural: str, data: ObjectData, done: Callable[[ObjectData], bool], timeout_s: float | None
) -> ObjectData:
    """Wait until an object satisfies `done`, across restarts of the server.

    Args:
        client: The connection.
        plural: Its kind in paths, such as `jobs`.
        data: The object, as it was last seen.
        done: Says whether the state is reached; may raise to end the wait.
        timeout_s: How long to wait; None for ever.

    Returns:
        The object in the awaited state.

    Raises:
        WaitTimeout: When time is over; the message says what the state was.
        NotFound: When the object is deleted meanwhile.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    outage = Outage()
    seen = data
    while True:
        try:
            for seen in _versions(client, plural, data, deadline):
                outage.over()
                if done(seen):
                    return seen
        except ServerUnreachable as error:
            outage.wait(error)
        if deadline is not None and time.monotonic() >= deadline:
            state = seen.status.get("state", "unknown")
            raise WaitTimeout(
                f"The {data.kind} {data.name!r} is still {state} after {timeout_s:g} s.",
                "Wait longer, or look at its status and logs.",
            )


class Outage:
    """Patience with a server that went away: growing pauses, and an end to them."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._attempt = 0

    def over(self) -> None:
        """The server answered."""
        self._since, self._attempt = None, 0

    def wait(self, error: ServerUnreachable) -> None:
        """Pause before the next try, or give up with the error."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since > self._patience_s:
            raise error
        time.sleep(backoff_s(self._attempt))
        self._attempt += 1


def _versions(client: Client, plural: str, data: ObjectData, deadline: float | None) -> Iterator[ObjectData]:
    """The object now, then each change of it, until the connection or the time ends."""
    found = client.http.json("GET", client.path(plural))
    current = [item for item in found["items"] if item["uid"] == data.uid]
    if not current:
        raise _gone(data)
    yield ObjectData.from_json(current[0])
    params = {"teamspace": data.teamspace, "kind": data.kind, "since": int(found["seq"])}
    for event in _until(client, params, deadline):
        change = event.data
        if event.name != "change" or change["object"]["uid"] != data.uid:
            continue
        if change["type"] == "deleted":
            raise _gone(data)
        yield ObjectData.from_json(change["object"])


def _until(client: Client, params: dict[str, str | int], deadline: float | None) -> Iterator[Event]:
    """Events of the change log; ends at the deadline or, so that the caller looks again, in silence.

    A stream's time-out cannot be changed while it is read, so with a deadline each stream covers half of
    what is left: the deadline is met to within 50 ms after a handful of streams.
    """
    silence_s = _QUIET_S
    if deadline is not None:
        silence_s = min(_QUIET_S, max(0.05, (deadline - time.monotonic()) / 2))

    def chunks(source: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in source:
            yield chunk
            if deadline is not None and deadline - time.monotonic() < silence_s:
                return  # the caller comes back with a shorter time-out

    try:
        with client.http.stream("GET", "/watch", params=params, read_timeout_s=silence_s) as response:
            yield from iter_events(chunks(response.iter_bytes()))
    except ServerUnreachable:
        if deadline is None or time.monotonic() < deadline:
            raise


def _gone(data: ObjectData) -> NotFound:
    return NotFound(f"The {data.kind} {data.name!r} was deleted.", status=404, code="not_found")
