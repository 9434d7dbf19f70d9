"""Where the ranks that a launcher makes belong, and where all of them meet."""

import os
from dataclasses import dataclass

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage] - public, but not listed

from blixt.fabric.cluster.base import ClusterEnvironment
from blixt.fabric.cluster.kubernetes import KubernetesIndexEnvironment
from blixt.fabric.cluster.local import LocalEnvironment
from blixt.fabric.errors import LaunchError


@dataclass
class Place:
    """A launcher's share of the ranks.

    Attributes:
        processes: Ranks on this machine.
        num_nodes: Machines.
        node_rank: Of this machine.
        address: Where the store is.
        port: Its port.
        store: The store, where this launcher holds it.
    """

    processes: int
    num_nodes: int
    node_rank: int
    address: str
    port: int
    store: TCPStore | None

    def close(self) -> None:
        """Close the store now: tracebacks may keep this object for long, even into forked processes."""
        self.store = None

    @property
    def world_size(self) -> int:
        """Ranks on all machines."""
        return self.processes * self.num_nodes


def find_place(processes: int, num_nodes: int) -> Place:
    """On one machine open the store at a free port; on several, at the address that the user gave."""
    if num_nodes == 1:
        store = TCPStore("127.0.0.1", 0, processes, is_master=True, wait_for_workers=False)
        return Place(processes, 1, 0, "127.0.0.1", store.port, store)
    environment: ClusterEnvironment = LocalEnvironment()
    if KubernetesIndexEnvironment.detect():
        environment = KubernetesIndexEnvironment()
    environment.validate_settings(processes, num_nodes)
    node, address, port = environment.node_rank(), environment.main_address, environment.main_port
    store = _open_store(address, port, processes * num_nodes) if node == 0 else None
    return Place(processes, num_nodes, node, address, port, store)


def _open_store(address: str, port: int, world_size: int) -> TCPStore:
    try:
        return TCPStore(address, port, world_size, is_master=True, wait_for_workers=False)
    except RuntimeError as error:
        raise LaunchError(
            f"The machine with NODE_RANK=0 cannot listen on {address}:{port}: {error}. Is MASTER_ADDR "
            f"({os.environ.get('MASTER_ADDR')}) this machine's address, and MASTER_PORT free?"
        ) from error
