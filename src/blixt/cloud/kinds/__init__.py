"""What can be asked for: one file a kind, with the types of its spec and status.

A spec is what somebody asked and is checked strictly: a misspelt key or a wrong type is an error that names
the field. A status is what is; controllers write it.
"""

from blixt.cloud.kinds.base import (
    KINDS,
    Kind,
    Spec,
    Status,
    kind_of,
    validate_labels,
    validate_name,
    validate_spec,
    validate_status,
)
from blixt.cloud.kinds.budget import BudgetSpec, BudgetStatus
from blixt.cloud.kinds.deployment import DeploymentSpec, DeploymentStatus, ReplicaStatus
from blixt.cloud.kinds.job import JobSpec, JobStatus
from blixt.cloud.kinds.plain import ExperimentSpec, ModelSpec, SecretSpec
from blixt.cloud.kinds.studio import StudioSpec, StudioStatus

__all__ = [
    "KINDS",
    "BudgetSpec",
    "BudgetStatus",
    "DeploymentSpec",
    "DeploymentStatus",
    "ExperimentSpec",
    "JobSpec",
    "JobStatus",
    "Kind",
    "ModelSpec",
    "ReplicaStatus",
    "SecretSpec",
    "Spec",
    "Status",
    "StudioSpec",
    "StudioStatus",
    "kind_of",
    "validate_labels",
    "validate_name",
    "validate_spec",
    "validate_status",
]
