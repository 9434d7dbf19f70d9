"""Who started this process, and which rank it has: one small file per kind of cluster."""

import os

from blixt.fabric.cluster.base import CHOSEN_VARIABLE, ClusterEnvironment, World, free_port
from blixt.fabric.cluster.kubernetes import KubeflowEnvironment, KubernetesIndexEnvironment
from blixt.fabric.cluster.local import LocalEnvironment
from blixt.fabric.cluster.lsf import LSFEnvironment
from blixt.fabric.cluster.mpi import MPIEnvironment
from blixt.fabric.cluster.slurm import SlurmEnvironment
from blixt.fabric.cluster.torchrun import BlixtEnvironment, TorchrunEnvironment

__all__ = [
    "BlixtEnvironment",
    "ClusterEnvironment",
    "KubeflowEnvironment",
    "KubernetesIndexEnvironment",
    "LSFEnvironment",
    "LocalEnvironment",
    "MPIEnvironment",
    "SlurmEnvironment",
    "TorchrunEnvironment",
    "World",
    "detect_environment",
    "detect_world",
    "free_port",
]

# Innermost first: torchrun may run inside Slurm or a pod, and MPI's variables are there under Slurm.
_ORDER: tuple[type[ClusterEnvironment], ...] = (
    BlixtEnvironment,
    KubeflowEnvironment,
    TorchrunEnvironment,
    SlurmEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    KubernetesIndexEnvironment,
)


def detect_environment() -> ClusterEnvironment | None:
    """The cluster that started this process; None when it stands alone.

    The first that recognises itself wins: a blixt Job, Kubeflow, torchrun's variables, Slurm, LSF, MPI, an
    indexed Kubernetes Job. A process that has joined its group keeps the cluster it was found in.
    """
    chosen = os.environ.get(CHOSEN_VARIABLE)
    for kind in _ORDER:
        if (kind.name == chosen) if chosen else kind.detect():
            return kind()
    return None


def detect_world() -> World | None:
    """The world that someone else started this process in, or None when it stands alone."""
    environment = detect_environment()
    world = environment.world() if environment is not None else None
    return world if world is not None and world.world_size > 1 else None
