"""Where one request may go: a fixed target (the API, a Studio app) or a deployment's lane."""

from typing import Protocol

from blixt.cloud.gateway.errors import BadUpstream
from blixt.cloud.gateway.routing import Target


class Place(Protocol):
    """Chooses targets and hears how they did."""

    @property
    def title(self) -> str:
        """What to call it in an error."""
        ...

    async def acquire(self, tried: set[Target]) -> Target:
        """A target that was not tried yet; raises GatewayError when there is none."""
        ...

    def release(self, target: Target) -> None:
        """The request left the target."""
        ...

    def suspect(self, target: Target) -> None:
        """The target did not answer."""
        ...


class FixedPlace:
    """One target, with nothing to choose."""

    __slots__ = ("_target", "title")

    def __init__(self, target: Target, title: str) -> None:
        self._target = target
        self.title = title

    async def acquire(self, tried: set[Target]) -> Target:
        """The target, once."""
        if self._target in tried:
            raise BadUpstream(f"{self.title} does not answer.", retry_after_s=1)
        return self._target

    def release(self, target: Target) -> None:
        """Nothing to count."""

    def suspect(self, target: Target) -> None:
        """Nowhere else to go."""
