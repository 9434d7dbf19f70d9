"""Kubernetes: Kubeflow's training operator, and plain indexed Jobs."""

import os
import re
import socket

from blixt.fabric.cluster.base import ClusterEnvironment, number
from blixt.fabric.cluster.local import LocalEnvironment
from blixt.fabric.errors import ConfigError

_KUBEFLOW = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
_PORT = 29500


class KubeflowEnvironment(ClusterEnvironment):
    """A PyTorchJob of Kubeflow's training operator: one process a pod.

    A PyTorchJob that runs torchrun in its pods is `TorchrunEnvironment`.
    """

    name = "kubeflow"

    @property
    def creates_processes_externally(self) -> bool:
        """Always: the operator makes the pods."""
        return True

    @property
    def main_address(self) -> str:
        """MASTER_ADDR."""
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """MASTER_PORT."""
        return number("MASTER_PORT")

    @staticmethod
    def detect() -> bool:
        """Whether this is a pod to which the operator gave a rank, and torchrun did not."""
        in_pod = "KUBERNETES_SERVICE_HOST" in os.environ or "KUBERNETES_PORT" in os.environ
        return in_pod and "LOCAL_RANK" not in os.environ and all(name in os.environ for name in _KUBEFLOW)

    def world_size(self) -> int:
        """WORLD_SIZE: the number of pods."""
        return number("WORLD_SIZE")

    def global_rank(self) -> int:
        """RANK."""
        return number("RANK")

    def local_rank(self) -> int:
        """0: a pod has one process."""
        return 0

    def local_world_size(self) -> int:
        """1: a pod has one process."""
        return 1

    def node_rank(self) -> int:
        """RANK, because a pod counts as a machine."""
        return self.global_rank()


class KubernetesIndexEnvironment(LocalEnvironment):
    """A pod of an indexed Job (`completionMode: Indexed`): its index is the machine's rank.

    `launch` makes the pod's own processes. MASTER_ADDR may be set; without it the pod of index 0 is found
    by name: Kubernetes names the pods of an indexed Job `<job>-<index>`, and a headless service
    (`spec.template.spec.subdomain`) makes these names known.
    """

    name = "kubernetes"

    @property
    def main_address(self) -> str:
        """MASTER_ADDR, else the name of the pod with index 0."""
        return os.environ.get("MASTER_ADDR") or first_pod(socket.getfqdn(), self.node_rank())

    @property
    def main_port(self) -> int:
        """MASTER_PORT, else 29500, which is free in a pod."""
        return number("MASTER_PORT", _PORT)

    @staticmethod
    def detect() -> bool:
        """Whether this is a pod of an indexed Job and nobody gave it a rank."""
        return "JOB_COMPLETION_INDEX" in os.environ and "WORLD_SIZE" not in os.environ

    def node_rank(self) -> int:
        """JOB_COMPLETION_INDEX."""
        return number("JOB_COMPLETION_INDEX")

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """The index must be one of `num_nodes` machines."""
        if self.node_rank() >= num_nodes:
            reason = f"this pod has index {self.node_rank()}, so there are more pods"
            raise ConfigError("num_nodes", num_nodes, reason, "Use the Job's `completions`")


def first_pod(own: str, index: int) -> str:
    """The name of the pod with index 0, from the name of the pod with `index`.

    Example:
        >>> first_pod("train-2.workers.team.svc.cluster.local", 2)
        'train-0.workers.team.svc.cluster.local'
    """
    if index == 0:
        return own
    host, dot, domain = own.partition(".")
    renamed, found = re.subn(rf"-{index}$", "-0", host)
    if not found:
        reason = f"this pod's name does not end with its index, {index}"
        raise ConfigError("MASTER_ADDR", None, reason, f"Set it to the pod of index 0; this pod is {own}")
    return renamed + dot + domain
