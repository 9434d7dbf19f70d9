"""Deployment: a service behind the gateway, with as many replicas as its traffic needs."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from blixt.cloud.kinds.base import NAME_RULE, BlobId, Command, Env, Kind, SecretNames, Spec, Status, register

_MODEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(:([1-9][0-9]{0,8}|latest))?\Z")


def _model_reference(value: str) -> str:
    if not _MODEL.match(value):
        raise ValueError(f"{value[:80]!r} is not name or name:version; for the name {NAME_RULE}")
    return value


def _path(value: str) -> str:
    if not value.startswith("/") or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("the path must begin with / and have no spaces")
    return value


class DeploymentSpec(Spec):
    """What a Deployment should serve."""

    model: Annotated[str, AfterValidator(_model_reference)] | None = None
    command: Command | None = None
    machine: str = "cpu-1"
    min_replicas: int = Field(default=0, ge=0, le=1000)
    max_replicas: int = Field(default=1, ge=1, le=1000)
    concurrency: int = Field(default=8, ge=1, le=10_000)
    idle_timeout_s: int = Field(default=60, ge=1, le=31_536_000)
    env: Env = Field(default_factory=dict)
    secrets: SecretNames = Field(default_factory=list)
    source: BlobId | None = None
    health_path: Annotated[str, Field(max_length=512), AfterValidator(_path)] = "/health"
    start_timeout_s: int = Field(default=120, ge=1, le=86_400)
    public: bool = False
    desired: Literal["running", "stopped"] = "running"

    @model_validator(mode="after")
    def _consistent(self) -> "DeploymentSpec":
        if self.model is None and self.command is None:
            raise ValueError("give model or command")
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is larger than max_replicas")
        return self


class ReplicaStatus(BaseModel):
    """How one replica is doing."""

    model_config = ConfigDict(extra="allow")

    id: str
    state: Literal["starting", "ready", "stopping", "failed"] = "starting"
    allocation: str | None = None
    port: int | None = None
    started_at: float | None = None
    restarts: int = 0
    reason: str = ""


class DeploymentStatus(Status):
    """How a Deployment is doing."""

    state: Literal["sleeping", "starting", "ready", "degraded", "failed", "stopped"] = "sleeping"
    reason: str = ""
    replicas: list[ReplicaStatus] = Field(default_factory=list[ReplicaStatus])
    requests_total: int = 0
    in_flight: int = 0
    url: str = ""
    failures: int = 0
    active_at: float | None = None


DEPLOYMENT = register(Kind("deployment", "deployments", DeploymentSpec, DeploymentStatus))
