"""What Studio, Job, Deployment and the others share: a name, a uid, a spec, a status, a life."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

from blixt.client.client import Client, default_client
from blixt.client.errors import NotFound
from blixt.client.types import ObjectData
from blixt.client.watch import wait_until


class Resource:
    """One object on the server.

    Attributes:
        data: The object as it was last seen; `refresh()` looks again.
        client: The connection it was read through.
    """

    kind: ClassVar[str]
    plural: ClassVar[str]

    def __init__(self, client: Client, data: ObjectData) -> None:
        self.client = client
        self.data = data

    @classmethod
    def get(cls, name: str, *, client: Client | None = None) -> Self:
        """Look an object up by name.

        Raises:
            NotFound: When there is none of that name in the teamspace.
        """
        client = client or default_client()
        return cls(client, client.get_object(cls.plural, name))

    @classmethod
    def exists(cls, name: str, *, client: Client | None = None) -> bool:
        """Whether there is an object of that name."""
        try:
            cls.get(name, client=client)
        except NotFound:
            return False
        return True

    @property
    def name(self) -> str:
        """Its name, unique in the teamspace among its kind."""
        return self.data.name

    @property
    def uid(self) -> str:
        """Its identity, never used again."""
        return self.data.uid

    @property
    def spec(self) -> dict[str, Any]:
        """What was asked for, as last seen."""
        return self.data.spec

    @property
    def reason(self) -> str:
        """Why it is in its state, in words; empty when the server gave none."""
        return str(self.data.status.get("reason") or "")

    def refresh(self) -> Self:
        """Look at the object on the server again."""
        self.data = self.client.get_object(self.plural, self.name)
        return self

    def delete(self, *, wait: bool = True, timeout_s: float = 60.0) -> None:
        """Delete it; running work is stopped and cleaned up first.

        Args:
            wait: Return only when it is gone.
            timeout_s: How long that may take.
        """
        self.client.delete_object(self.plural, self.name)
        if not wait:
            return
        try:
            self._wait(lambda _: False, timeout_s)
        except NotFound:
            return

    def _path(self, *parts: str) -> str:
        return self.client.path(self.plural, self.name, *parts)

    def _wait(self, done: Callable[[ObjectData], bool], timeout_s: float | None) -> None:
        """Wait for a state and keep what was seen last."""
        self.data = wait_until(self.client, self.plural, self.data, done, timeout_s)

    def __repr__(self) -> str:
        state = self.data.status.get("state")
        return f"{type(self).__name__}({self.name!r}{f', {state}' if state else ''})"

    @classmethod
    def list(cls, *, client: Client | None = None, label: str | None = None) -> "list[Self]":
        """All objects of this kind in the teamspace.

        Args:
            client: The connection; the default one when not given.
            label: Only those that carry it, as `key=value`.
        """
        client = client or default_client()
        return [cls(client, data) for data in client.list_objects(cls.plural, label=label)]


class Stateful(Resource):
    """An object that runs: its status has a `state`."""

    @property
    def state(self) -> str:
        """Its state as last seen."""
        return str(self.data.status.get("state") or "unknown")

    @property
    def status(self) -> str:
        """Its state now; asks the server."""
        return self.refresh().state
