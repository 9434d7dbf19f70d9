"""Collectives as objects: for people who want groups of their own."""

import os
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, Self, cast

import torch
import torch.distributed as dist
from torch import Tensor

from blixt.fabric.errors import ConfigError, FabricError, UsageError, nearest

_dist = cast("Any", dist)


class Collective(ABC):
    """Operations between the processes of one group; all of them call each operation in the same order."""

    def __init__(self) -> None:
        self._group: Any = None

    @property
    def group(self) -> Any:
        """The group that `create_group` made.

        Raises:
            UsageError: When it has not.
        """
        if self._group is None:
            raise UsageError(f"{type(self).__name__} has no group yet. Call create_group() first.")
        return self._group

    @property
    @abstractmethod
    def rank(self) -> int:
        """Index of this process in the group."""

    @property
    @abstractmethod
    def world_size(self) -> int:
        """Number of processes in the group."""

    @abstractmethod
    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        """`tensor` becomes that of process `src`."""

    @abstractmethod
    def all_reduce(self, tensor: Tensor, op: Any = "sum") -> Tensor:
        """`tensor` becomes the reduction over all processes."""

    @abstractmethod
    def reduce(self, tensor: Tensor, dst: int, op: Any = "sum") -> Tensor:
        """`tensor` becomes the reduction over all processes, on process `dst`."""

    @abstractmethod
    def all_gather(self, tensor_list: list[Tensor], tensor: Tensor) -> list[Tensor]:
        """`tensor_list` becomes what every process gave, in order of rank."""

    @abstractmethod
    def gather(self, tensor: Tensor, gather_list: list[Tensor] | None, dst: int = 0) -> list[Tensor] | None:
        """`gather_list` becomes what every process gave, on process `dst`."""

    @abstractmethod
    def scatter(self, tensor: Tensor, scatter_list: list[Tensor] | None, src: int = 0) -> Tensor:
        """`tensor` becomes this process's entry of the list that process `src` has."""

    @abstractmethod
    def reduce_scatter(self, output: Tensor, input_list: list[Tensor], op: Any = "sum") -> Tensor:
        """`output` becomes the reduction of this process's entries in everybody's lists."""

    @abstractmethod
    def all_to_all(self, output_tensor_list: list[Tensor], input_tensor_list: list[Tensor]) -> list[Tensor]:
        """Entry i of the inputs goes to process i; outputs hold what the others sent here."""

    @abstractmethod
    def send(self, tensor: Tensor, dst: int, tag: int = 0) -> None:
        """Give `tensor` to process `dst`."""

    @abstractmethod
    def recv(self, tensor: Tensor, src: int | None = None, tag: int = 0) -> Tensor:
        """`tensor` becomes what process `src` (or any) sends."""

    @abstractmethod
    def barrier(self, device_ids: list[int] | None = None) -> None:
        """Wait until every process of the group is here."""

    @classmethod
    @abstractmethod
    def is_available(cls) -> bool:
        """Whether this kind can be used here."""

    @classmethod
    @abstractmethod
    def is_initialized(cls) -> bool:
        """Whether the processes have met."""

    def setup(self, **options: Any) -> Self:
        """Let the processes meet, unless they have; `options` are torch's for a process group."""
        return self

    def create_group(self, **options: Any) -> Self:
        """Make a group of processes: `ranks=[0, 1]`, or all; every process has to call it.

        Raises:
            UsageError: When this object has one.
        """
        if self._group is not None:
            raise UsageError(f"{type(self).__name__} has a group already. Make another object.")
        self._group = self._new_group(**options)
        return self

    def teardown(self) -> Self:
        """Give the group up."""
        self._group = None
        return self

    @abstractmethod
    def _new_group(self, **options: Any) -> Any: ...


class SingleDeviceCollective(Collective):
    """The same operations for one process: everything comes back as it is."""

    @property
    def rank(self) -> int:
        """0."""
        return 0

    @property
    def world_size(self) -> int:
        """1."""
        return 1

    def broadcast(self, tensor: Tensor, src: int = 0) -> Tensor:
        """`tensor`."""
        return tensor

    def all_reduce(self, tensor: Tensor, op: Any = "sum") -> Tensor:
        """`tensor`."""
        return tensor

    def reduce(self, tensor: Tensor, dst: int = 0, op: Any = "sum") -> Tensor:
        """`tensor`."""
        return tensor

    def all_gather(self, tensor_list: list[Tensor], tensor: Tensor) -> list[Tensor]:
        """A list of `tensor`."""
        return [tensor]

    def gather(self, tensor: Tensor, gather_list: list[Tensor] | None = None, dst: int = 0) -> list[Tensor]:
        """A list of `tensor`."""
        return [tensor]

    def scatter(self, tensor: Tensor, scatter_list: list[Tensor] | None, src: int = 0) -> Tensor:
        """The only entry of the list."""
        return scatter_list[0] if scatter_list else tensor

    def reduce_scatter(self, output: Tensor, input_list: list[Tensor], op: Any = "sum") -> Tensor:
        """The only entry of the list."""
        return input_list[0]

    def all_to_all(self, output_tensor_list: list[Tensor], input_tensor_list: list[Tensor]) -> list[Tensor]:
        """The inputs."""
        return input_tensor_list

    def send(self, tensor: Tensor, dst: int = 0, tag: int = 0) -> None:
        """Nothing: there is nobody to give it to."""

    def recv(self, tensor: Tensor, src: int | None = None, tag: int = 0) -> Tensor:
        """`tensor`."""
        return tensor

    def barrier(self, device_ids: list[int] | None = None) -> None:
        """Nothing."""

    @classmethod
    def is_available(cls) -> bool:
        """Always."""
        return True

    @classmethod
    def is_initialized(cls) -> bool:
        """Always."""
        return True

    def _new_group(self, **options: Any) -> Any:
        return object()


class TorchCollective(Collective):
    """torch.distributed, on the default group unless `create_group` made another.

    Attributes:
        manages_default_group: Whether `setup` of an object of this class made the processes meet, so that
            the last `teardown` parts them.
    """

    manages_default_group = False

    def __init__(self) -> None:
        if not dist.is_available():
            raise FabricError("This torch was built without torch.distributed. Install another build.")
        super().__init__()

    @property
    def group(self) -> Any:
        """The group that `create_group` made, else all processes."""
        return self._group if self._group is not None else dist.GroupMember.WORLD

    @property
    def rank(self) -> int:
        """Index of this process in the group."""
        return dist.get_rank(self.group)

    @property
    def world_size(self) -> int:
        """Number of processes in the group."""
        return dist.get_world_size(self.group)

    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        """`tensor` becomes that of the process with global rank `src`."""
        _dist.broadcast(tensor, src, group=self.group)
        return tensor

    def all_reduce(self, tensor: Tensor, op: Any = "sum") -> Tensor:
        """`tensor` becomes the reduction over all processes."""
        _dist.all_reduce(tensor, op=_operation(op), group=self.group)
        return tensor

    def reduce(self, tensor: Tensor, dst: int, op: Any = "sum") -> Tensor:
        """`tensor` becomes the reduction over all processes, on process `dst`."""
        _dist.reduce(tensor, dst, op=_operation(op), group=self.group)
        return tensor

    def all_gather(self, tensor_list: list[Tensor], tensor: Tensor) -> list[Tensor]:
        """`tensor_list` becomes what every process gave, in order of rank."""
        _dist.all_gather(tensor_list, tensor, group=self.group)
        return tensor_list

    def gather(self, tensor: Tensor, gather_list: list[Tensor] | None, dst: int = 0) -> list[Tensor] | None:
        """`gather_list` becomes what every process gave, on process `dst`; None elsewhere."""
        _dist.gather(tensor, gather_list, dst, group=self.group)
        return gather_list

    def scatter(self, tensor: Tensor, scatter_list: list[Tensor] | None, src: int = 0) -> Tensor:
        """`tensor` becomes this process's entry of the list that process `src` has."""
        _dist.scatter(tensor, scatter_list, src, group=self.group)
        return tensor

    def reduce_scatter(self, output: Tensor, input_list: list[Tensor], op: Any = "sum") -> Tensor:
        """`output` becomes the reduction of this process's entries in everybody's lists."""
        _dist.reduce_scatter(output, input_list, op=_operation(op), group=self.group)
        return output

    def all_to_all(self, output_tensor_list: list[Tensor], input_tensor_list: list[Tensor]) -> list[Tensor]:
        """Entry i of the inputs goes to process i; outputs hold what the others sent here."""
        _dist.all_to_all(output_tensor_list, input_tensor_list, group=self.group)
        return output_tensor_list

    def send(self, tensor: Tensor, dst: int, tag: int = 0) -> None:
        """Give `tensor` to process `dst`."""
        _dist.send(tensor, dst, tag=tag, group=self.group)

    def recv(self, tensor: Tensor, src: int | None = None, tag: int = 0) -> Tensor:
        """`tensor` becomes what process `src` (or any) sends."""
        _dist.recv(tensor, src, tag=tag, group=self.group)
        return tensor

    def all_gather_object(self, object_list: list[Any], obj: Any) -> list[Any]:
        """`object_list` becomes what every process gave; anything picklable."""
        _dist.all_gather_object(object_list, obj, group=self.group)
        return object_list

    def broadcast_object_list(
        self, object_list: list[Any], src: int, device: torch.device | None = None
    ) -> list[Any]:
        """`object_list` becomes that of process `src`; anything picklable."""
        _dist.broadcast_object_list(object_list, src, group=self.group, device=device)
        return object_list

    def gather_object(self, obj: Any, object_gather_list: list[Any] | None, dst: int = 0) -> list[Any] | None:
        """`object_gather_list` becomes what every process gave, on process `dst`."""
        _dist.gather_object(obj, object_gather_list, dst, group=self.group)
        return object_gather_list

    def scatter_object_list(
        self, scatter_object_output_list: list[Any], scatter_object_input_list: list[Any] | None, src: int = 0
    ) -> list[Any]:
        """The output list holds this process's entry of the list that process `src` has."""
        _dist.scatter_object_list(
            scatter_object_output_list, scatter_object_input_list, src, group=self.group
        )
        return scatter_object_output_list

    def barrier(self, device_ids: list[int] | None = None) -> None:
        """Wait until every process of the group is here; nothing for a process outside of it."""
        if self.group != dist.GroupMember.NON_GROUP_MEMBER:
            _dist.barrier(group=self.group, device_ids=device_ids)

    def monitored_barrier(self, timeout: timedelta | None = None, wait_all_ranks: bool = False) -> None:
        """A barrier that says who did not come (gloo only)."""
        _dist.monitored_barrier(group=self.group, timeout=timeout, wait_all_ranks=wait_all_ranks)

    def setup(
        self, main_address: str | None = None, main_port: str | int | None = None, **options: Any
    ) -> Self:
        """Let the processes meet, unless they have.

        Args:
            main_address: Where; only if MASTER_ADDR does not say.
            main_port: Likewise for MASTER_PORT.
            options: For `torch.distributed.init_process_group`: `backend`, `rank`, `world_size`, ...
        """
        if self.is_initialized():
            return self
        given = {"MASTER_ADDR": main_address, "MASTER_PORT": main_port}
        added = {name: str(v) for name, v in given.items() if v is not None and name not in os.environ}
        os.environ.update(added)
        try:
            _dist.init_process_group(**options)
        finally:
            for name in added:
                os.environ.pop(name, None)
        TorchCollective.manages_default_group = True
        return self

    def teardown(self) -> Self:
        """Give the own group up; the object that has none parts the processes, if `setup` joined them."""
        own, self._group = self._group, None
        if own is not None:
            if own != dist.GroupMember.NON_GROUP_MEMBER and self.is_initialized():
                dist.destroy_process_group(own)
        elif TorchCollective.manages_default_group and self.is_initialized():
            dist.destroy_process_group()
            TorchCollective.manages_default_group = False
        return self

    @classmethod
    def is_available(cls) -> bool:
        """Whether torch was built with it."""
        return dist.is_available()

    @classmethod
    def is_initialized(cls) -> bool:
        """Whether the processes have met."""
        return dist.is_available() and dist.is_initialized()

    def _new_group(self, **options: Any) -> Any:
        return _dist.new_group(**options)


def _operation(op: Any) -> Any:
    """torch's operation from "sum" and its like, or one of torch's as it is."""
    if not isinstance(op, str):
        return op
    found = getattr(dist.ReduceOp, op.upper(), None)
    if found is None:
        names = [name for name in dir(dist.ReduceOp) if name.isupper()]
        raise ConfigError("op", op, "there is no such operation", nearest(op.upper(), names).rstrip("?"))
    return found
