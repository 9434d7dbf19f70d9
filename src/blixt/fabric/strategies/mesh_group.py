"""What strategies on a named grid of processes share: the grid, the data's part, state made of shards."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.cluster import World
from blixt.fabric.errors import ConfigError
from blixt.fabric.mesh import Parallel, data_parallel_rank, flat
from blixt.fabric.strategies.base import StateFormat
from blixt.fabric.strategies.dtensors import is_dtensor, whole
from blixt.fabric.strategies.group import GroupStrategy
from blixt.fabric.strategies.saving import save_sharded, sharded_module_state, sharded_optimizer_state

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

PathLike = str | os.PathLike[str]


class MeshStrategy(GroupStrategy):
    """Base of strategies that arrange their processes in a grid.

    Args:
        parallel: How many processes share what; None shards over all of them.
        device_mesh: (replicas, shards), or a mesh of your own with one dimension (shards) or two.
        state_dict_type: "full" or "sharded", see `Strategy.state_format`.
        group: What `GroupStrategy` takes.
    """

    needs_group = True
    data_axes: tuple[str, ...] = ("dp_replicate", "dp_shard")
    """Axes of the grid along which the data is divided."""

    def __init__(
        self,
        *,
        parallel: Parallel | None = None,
        device_mesh: Any = None,
        state_dict_type: StateFormat = "full",
        **group: Any,
    ) -> None:
        super().__init__(**group)
        if state_dict_type not in ("full", "sharded"):
            argument = f"{type(self).__name__}(state_dict_type)"
            raise ConfigError(argument, state_dict_type, "there is no such format", "Use 'full' or 'sharded'")
        if parallel is not None and device_mesh is not None:
            argument = f"{type(self).__name__}(device_mesh)"
            raise ConfigError(argument, device_mesh, "parallel says the same", "Give one of the two")
        self.state_format = state_dict_type
        self.says_no_sizes = parallel is None and device_mesh is None
        self._parallel: Parallel | None = parallel
        self._given_mesh: Any = device_mesh
        self._mesh: DeviceMesh | None = None

    def connect(self, world: World, backend: str) -> None:
        """Meet the others and make the grid."""
        self._parallel = self._sizes(world)
        self.join_group(world, backend)
        if self._mesh is None:
            own = self._given_mesh is not None and not isinstance(self._given_mesh, tuple)
            device_type = "cuda" if "nccl" in dist.get_backend_config() else "cpu"
            self._mesh = (
                cast("Any", self)._given_mesh
                if own
                else self._parallel.make_mesh(device_type, self.timeout_s)
            )

    def _sizes(self, world: World) -> Parallel:
        given: Any = self._given_mesh
        if isinstance(given, tuple):
            sizes = cast("tuple[int, ...]", given)
            if len(sizes) != 2:
                argument = f"{type(self).__name__}(device_mesh)"
                raise ConfigError(argument, sizes, "two sizes are needed", "Give (replicas, shards)")
            return Parallel(dp_replicate=sizes[0], dp_shard=sizes[1]).resolve(world.world_size)
        if given is not None:
            replicas = given.size(0) if given.ndim == 2 else 1
            return Parallel(dp_replicate=replicas).resolve(world.world_size)
        return (self._parallel or Parallel()).resolve(world.world_size)

    def disconnect(self) -> None:
        """Leave the group; the grid goes with it."""
        self._mesh = None
        super().disconnect()

    @property
    def parallel(self) -> Parallel:
        """Sizes along the axes; with -1 for what is not known before `connect`."""
        return self._parallel or Parallel()

    @property
    def device_mesh(self) -> "DeviceMesh":
        """The named grid, see `blixt.fabric.mesh.DIMENSIONS`.

        Raises:
            ConfigError: Before the processes are connected.
        """
        if self._mesh is None:
            reason = "the processes have not met yet"
            raise ConfigError("strategy.device_mesh", None, reason, "Call fabric.launch() first")
        return self._mesh

    @property
    def data_parallel_size(self) -> int:
        """Replicas times shards; processes along the other axes see the same data."""
        return self._parallel.data_parallel_size if self._mesh is not None and self._parallel else 1

    @property
    def data_parallel_rank(self) -> int:
        """This process's place along the axes that divide the data."""
        if self._mesh is None:
            return 0
        names = self._mesh.mesh_dim_names or ()
        wanted = tuple(name for name in self.data_axes if name in names)
        return data_parallel_rank(self._mesh, wanted) if wanted else self._mesh.get_rank()

    def _data_mesh(self) -> "DeviceMesh":
        """The one or two axes that `fully_shard` works on; shards spread over context parallelism as well."""
        mesh = self.device_mesh
        if "dp_shard" not in (mesh.mesh_dim_names or ()):
            return mesh
        sizes = self.parallel
        if sizes.cp == 1:
            return mesh["dp_replicate", "dp_shard"] if sizes.dp_replicate > 1 else mesh["dp_shard"]
        shards = flat(mesh, ("dp_shard", "cp"), "dp_shard_cp", self.timeout_s)
        return cast("Any", mesh)["dp_replicate", "dp_shard_cp"] if sizes.dp_replicate > 1 else shards

    def sync_states(self, module: nn.Module, device: torch.device) -> None:
        """Give whole tensors rank 0's values on all processes; shards are somebody else's business."""
        if self.world.world_size == 1:
            return
        for tensor in [*module.parameters(), *module.buffers()]:
            if not is_dtensor(tensor) and not tensor.is_meta:
                moved = tensor.detach().to(device)
                eight_bits = (
                    moved.is_floating_point() and moved.dtype.itemsize == 1
                )  # gloo sends them as bytes
                dist.broadcast(moved.view(torch.uint8) if eight_bits else moved, src=0)
                if moved.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(moved)

    # --- state ------------------------------------------------------------------------------------

    def module_state(self, module: nn.Module) -> dict[str, Any]:
        """Whole tensors on rank 0 and {} elsewhere, or every process's shards."""
        state = module.state_dict()
        if self.state_format == "sharded":
            return sharded_module_state(state)
        return self._on_first_rank({name: self._whole(value) for name, value in state.items()})

    def optimizer_state(self, module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """Whole tensors on rank 0 and {} elsewhere, or every process's shards under parameter names."""
        if self.state_format == "sharded":
            return sharded_optimizer_state(module, optimizer)
        state = optimizer.state_dict()
        gathered = {
            key: {name: self._whole(value) for name, value in values.items()}
            for key, values in state["state"].items()
        }
        return self._on_first_rank({**state, "state": gathered})

    def _whole(self, value: Any) -> Any:
        """All processes take part in putting a tensor together, and only rank 0 keeps it."""
        if not is_dtensor(value) or self.world.rank == 0:
            return whole(value)
        full: Any = value
        full.full_tensor()
        return None

    def _on_first_rank(self, state: dict[str, Any]) -> dict[str, Any]:
        return state if self.world.rank == 0 else {}

    def save_checkpoint(
        self, path: PathLike, content: Mapping[str, Any], *, storage_options: Any = None
    ) -> None:
        """One file from rank 0, or a directory from all processes."""
        if self.state_format == "full":
            return super().save_checkpoint(path, content, storage_options=storage_options)
        save_sharded(self.checkpoint_io, path, content, storage_options)
