"""What the cloud asks of an engine: five methods and four small types."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class EngineError(Exception):
    """An engine could not do what was asked; the message is a sentence for the user."""


@dataclass(frozen=True)
class Offer:
    """What one engine can give to a single allocation."""

    engine: str
    cpus: int
    memory_gb: float
    gpus: int
    isolation: str


@dataclass(frozen=True)
class MachineRequest:
    """One machine to allocate.

    Attributes:
        machine: The machine type's name, as in the price list.
        cpus: Cores the allocation may use.
        memory_gb: Memory the allocation may use.
        gpus: GPUs it needs.
        url: Where the agent finds the server (`BLIXT_URL`).
        agent_token: What the agent proves itself with.
        teamspace: The tenant; allocations of one teamspace share a system user.
        home: The folder that becomes `$HOME`, on the server's side of the sandbox.
        shared: The teamspace's folder, which becomes `~/teamspace`.
        hostname: The machine's name as its user sees it.
    """

    machine: str
    cpus: float
    memory_gb: float
    gpus: int
    url: str
    agent_token: str
    teamspace: str
    home: Path
    shared: Path
    hostname: str


@dataclass(frozen=True)
class Machine:
    """An allocation as its engine sees it.

    Attributes:
        token: The deterministic token it was asked for with.
        alive: Whether anything of it still runs.
        reason: When it does not: the last words of its start, or an empty string.
    """

    token: str
    alive: bool
    reason: str = ""


class Engine(Protocol):
    """Allocates machines; every method may block and is called from a worker thread."""

    name: str

    def offers(self) -> list[Offer]:
        """Say what a single allocation could get here."""
        ...

    def allocate(self, request: MachineRequest, token: str) -> Machine:
        """Start a machine under `token`; a second call with the same token starts nothing."""
        ...

    def find(self, token: str) -> Machine | None:
        """Look the machine up by its token; None when the engine never heard of it."""
        ...

    def list(self) -> list[Machine]:
        """Every machine the engine holds, alive or waiting for its release."""
        ...

    def release(self, token: str) -> None:
        """End everything in the machine and forget it; releasing an unknown token is no error."""
        ...
