"""Kinds whose content lives in tables of their own: the object is the name, the owner and the rights."""

from pydantic import Field

from blixt.cloud.kinds.base import Kind, Spec, Status, register


class ExperimentSpec(Spec):
    """An Experiment gathers runs to compare."""

    description: str = Field(default="", max_length=4096)


class ModelSpec(Spec):
    """A Model has numbered versions, each a set of files."""

    description: str = Field(default="", max_length=4096)


class ExperimentStatus(Status):
    """How many runs an Experiment has."""

    runs: int = 0


class ModelStatus(Status):
    """Which versions a Model has; `latest_version` is the newest that is complete."""

    versions: int = 0
    latest_version: int | None = None


class SecretSpec(Spec):
    """A Secret's value is stored encrypted, never in its object."""


EXPERIMENT = register(Kind("experiment", "experiments", ExperimentSpec, ExperimentStatus))
MODEL = register(Kind("model", "models", ModelSpec, ModelStatus))
SECRET = register(Kind("secret", "secrets", SecretSpec, Status))
