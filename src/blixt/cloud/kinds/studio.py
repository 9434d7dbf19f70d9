"""Studio: a machine with a persistent home folder, to work in interactively."""

from typing import Literal

from pydantic import Field

from blixt.cloud.kinds.base import Env, Kind, SecretNames, Spec, Status, register


class StudioSpec(Spec):
    """What a Studio should be."""

    machine: str = "cpu-1"
    desired: Literal["running", "stopped"] = "running"
    env: Env = Field(default_factory=dict)
    secrets: SecretNames = Field(default_factory=list)
    idle_timeout_s: int = Field(default=0, ge=0, le=31_536_000)


class StudioStatus(Status):
    """What a Studio is doing."""

    state: Literal["stopped", "starting", "running", "stopping", "failed"] = "stopped"
    reason: str = ""
    allocation: str | None = None
    started_at: float | None = None
    agent_connected: bool = False
    attempt: int = 0


STUDIO = register(Kind("studio", "studios", StudioSpec, StudioStatus))
