"""A two-dimensional grid of data and tensor parallel processes, for modules that parallelise themselves."""

from collections.abc import Callable
from typing import Any, Literal

import torch.distributed as dist
from torch import nn

from blixt.fabric.cluster import World
from blixt.fabric.errors import ConfigError
from blixt.fabric.mesh import Parallel
from blixt.fabric.strategies.parallel import ParallelStrategy


class ModelParallelStrategy(ParallelStrategy):
    """The grid has the axes "data_parallel" and "tensor_parallel", and the module does the rest.

    A Trainer's module uses `self.device_mesh` in `configure_model`; in a Fabric loop `parallelize_fn` does
    it. New programs take `ParallelStrategy`, which also shards what they leave whole.

    Args:
        data_parallel_size: "auto" is the number of machines.
        tensor_parallel_size: "auto" is the number of processes of a machine.
        save_distributed_checkpoint: Write directories of shards in place of single files.
        parallelize_fn: Called as `parallelize_fn(module, device_mesh)`; returns the module.
        group: What `GroupStrategy` takes.
    """

    data_axes = ("data_parallel",)

    def __init__(
        self,
        parallelize_fn: Callable[[Any, Any], nn.Module] | None = None,
        data_parallel_size: int | Literal["auto"] = "auto",
        tensor_parallel_size: int | Literal["auto"] = "auto",
        save_distributed_checkpoint: bool = True,
        **group: Any,
    ) -> None:
        super().__init__(
            parallelize_fn=parallelize_fn,
            state_dict_type="sharded" if save_distributed_checkpoint else "full",
            **group,
        )
        self._wanted = (data_parallel_size, tensor_parallel_size)

    def connect(self, world: World, backend: str) -> None:
        """Meet the others and make the grid of two axes."""
        from torch.distributed.device_mesh import init_device_mesh

        data, tensor = self._wanted
        data = max(1, world.world_size // world.local_world_size) if data == "auto" else data
        tensor = world.local_world_size if tensor == "auto" else tensor
        if data * tensor != world.world_size:
            reason = f"{data} * tensor_parallel_size={tensor} does not make {world.world_size} process(es)"
            argument = "ModelParallelStrategy(data_parallel_size)"
            raise ConfigError(argument, data, reason, "Make the product the number of processes")
        self._parallel = Parallel(dp_shard=data, tp=tensor)
        self.join_group(world, backend)
        if self._mesh is None:
            device_type = "cuda" if "nccl" in dist.get_backend_config() else "cpu"
            names = ("data_parallel", "tensor_parallel")
            self._mesh = init_device_mesh(device_type, (data, tensor), mesh_dim_names=names)

    def leaves_whole(self) -> bool:
        """The module decides what is sharded; what it left stays."""
        return True
