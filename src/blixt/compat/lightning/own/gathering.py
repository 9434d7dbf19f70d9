"""The Fabric whose collectives give numbers Lightning's types, and one process its own data."""

from typing import Any, TypeVar

import torch
from torch.distributed import ProcessGroup

from blixt import fabric
from blixt.fabric.collectives import map_leaves

__all__ = ["Fabric"]

T = TypeVar("T")
_TYPES = ((bool, torch.uint8), (int, torch.int32), (float, torch.float32))


class Fabric(fabric.Fabric):
    """blixt's Fabric; only several processes add a first dimension to what is gathered."""

    def all_gather(self, data: T, group: ProcessGroup | None = None, sync_grads: bool = False) -> T:
        """Tensors and numbers in `data`, of all processes; numbers become tensors of Lightning's types."""
        tensors = map_leaves(data, self._as_tensor)
        if self.world_size == 1:
            self._connect()
            return tensors
        return super().all_gather(tensors, group, sync_grads)

    def all_reduce(
        self, data: T, reduce_op: fabric.ReduceOp = "mean", group: ProcessGroup | None = None
    ) -> T:
        """Tensors and numbers in `data`, reduced; numbers become tensors of Lightning's types."""
        return super().all_reduce(map_leaves(data, self._as_tensor), reduce_op, group)

    def _as_tensor(self, value: Any) -> Any:
        for kind, dtype in _TYPES:
            if isinstance(value, kind):
                return torch.tensor(value, dtype=dtype, device=self.device)
        return value.to(self.device) if isinstance(value, torch.Tensor) else value
