"""Job: a command that runs to its end on one or more machines."""

from typing import Literal

from pydantic import Field, model_validator

from blixt.cloud.kinds.base import BlobId, Command, Env, Kind, ObjectName, SecretNames, Spec, Status, register


class JobSpec(Spec):
    """What a Job should run."""

    command: Command
    machine: str = "cpu-1"
    machines: int = Field(default=1, ge=1, le=1024)
    processes: int = Field(default=1, ge=1, le=256)
    env: Env = Field(default_factory=dict)
    secrets: SecretNames = Field(default_factory=list)
    source: BlobId | None = None
    studio: ObjectName | None = None
    experiment: ObjectName | None = None
    model: ObjectName | None = None
    max_restarts: int = Field(default=0, ge=0, le=1000)
    timeout_s: int | None = Field(default=None, ge=1, le=31_536_000)
    desired: Literal["running", "stopped"] = "running"

    @model_validator(mode="after")
    def _one_source(self) -> "JobSpec":
        if self.source is not None and self.studio is not None:
            raise ValueError("give source or studio, not both")
        return self


class JobStatus(Status):
    """How a Job is doing."""

    state: Literal["pending", "starting", "running", "stopping", "succeeded", "failed", "stopped"] = "pending"
    reason: str = ""
    exit_code: int | None = None
    attempt: int = 0
    allocations: list[str] = Field(default_factory=list)
    started_at: float | None = None
    finished_at: float | None = None
    model_version: int | None = None


JOB = register(Kind("job", "jobs", JobSpec, JobStatus))
