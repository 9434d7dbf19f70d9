"""Every process keeps a shard of each parameter; units of the model are gathered when they run (FSDP2)."""

import operator
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from blixt.fabric.cluster import World
from blixt.fabric.errors import ConfigError
from blixt.fabric.mesh import Parallel
from blixt.fabric.strategies.base import Launcher, NoSync, StateFormat
from blixt.fabric.strategies.materialize import materialize
from blixt.fabric.strategies.mesh_group import MeshStrategy
from blixt.fabric.strategies.units import Policy, choose_units, topmost

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy

ShardingName = Literal["FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD"]


class FSDPStrategy(MeshStrategy):
    """torch's `fully_shard`: parameters, gradients and optimizer state are divided among the processes.

    Args:
        auto_wrap_policy: Which submodules are gathered one at a time, see `units.Policy`.
        activation_checkpointing_policy: Which submodules forget their activations and compute them again in
            backward; the same forms. None for none.
        cpu_offload: Keep parameters, gradients and optimizer state in CPU memory between uses.
        reshard_after_forward: Whether a unit's parameters are freed after its forward pass and gathered again
            in backward. None frees them, but not those of the root; a number frees them down to a shard among
            that many processes.
        sharding_strategy: The names of FSDP1: "FULL_SHARD" is the default, "SHARD_GRAD_OP" is
            reshard_after_forward=False, "HYBRID_SHARD" shards within a machine and replicates among machines.
        mixed_precision: torch's `MixedPrecisionPolicy`, in place of the one that follows from `precision=`.
        parallel: How many processes share what; `Parallel(dp_replicate=2)` is HSDP with two replicas.
        device_mesh: (replicas, shards) in place of `parallel`, or a mesh of your own with 1 or 2 dimensions.
        state_dict_type: "full" saves one file, "sharded" a directory that each process writes its part of.
        sync_module_states: Give all processes rank 0's initial values.
        fsdp_options: Everything else that `fully_shard` takes: `shard_placement_fn`, `ignored_params`.
    """

    name = "fsdp"
    wraps_evaluation = True
    guards_forward = True

    def __init__(
        self,
        *,
        auto_wrap_policy: Policy = "blocks",
        activation_checkpointing_policy: Policy = None,
        cpu_offload: bool = False,
        reshard_after_forward: bool | int | None = None,
        sharding_strategy: ShardingName | None = None,
        mixed_precision: "MixedPrecisionPolicy | None" = None,
        parallel: Parallel | None = None,
        device_mesh: Any = None,
        state_dict_type: StateFormat = "full",
        sync_module_states: bool = True,
        timeout_s: float | timedelta = 1800.0,
        process_group_backend: str | None = None,
        launcher: Launcher | None = None,
        checkpoint_io: Any = None,
        layer_sync: Any = None,
        **fsdp_options: Any,
    ) -> None:
        super().__init__(
            parallel=parallel,
            device_mesh=device_mesh,
            state_dict_type=state_dict_type,
            timeout_s=timeout_s,
            process_group_backend=process_group_backend,
            launcher=launcher,
            checkpoint_io=checkpoint_io,
            layer_sync=layer_sync,
        )
        self._refuse_unknown(fsdp_options)
        self.auto_wrap_policy: Policy = auto_wrap_policy
        self.activation_checkpointing_policy: Policy = activation_checkpointing_policy
        self.cpu_offload = cpu_offload
        self.sharding_strategy = _known_sharding(sharding_strategy)
        self.reshard_after_forward = False if sharding_strategy == "SHARD_GRAD_OP" else reshard_after_forward
        self.mixed_precision = mixed_precision
        self.sync_module_states = sync_module_states
        self.fsdp_options = fsdp_options
        self._sharded: list[FSDPModule] = []

    def connect(self, world: World, backend: str) -> None:
        """Meet the others; "HYBRID_SHARD" makes the machines replicas of each other."""
        if self.sharding_strategy == "HYBRID_SHARD" and self.says_no_sizes:
            self._parallel = Parallel(dp_replicate=max(1, world.world_size // world.local_world_size))
        if self.cpu_offload and backend == "nccl":
            backend = "cpu:gloo,cuda:nccl"  # norms of gradients that live in CPU memory
        super().connect(world, backend)

    def init_context(
        self, device: torch.device, empty_init: bool | None = None
    ) -> AbstractContextManager[Any]:
        """On the meta device with `empty_init`; else on the CPU, because the whole may not fit a device."""
        return torch.device("meta" if empty_init else "cpu")

    def shard(self, module: nn.Module, device: torch.device, *, move_to_device: bool = True) -> nn.Module:
        """Divide every parameter among the processes, unit by unit; parameters change their identity."""
        if self._is_sharded(module):
            return module
        module = self.sync_layers(module)
        mesh = self._data_mesh()
        for part in choose_units(
            module, self.activation_checkpointing_policy, "activation_checkpointing_policy"
        ):
            recompute(part)
        for unit in [*self._units_of(module), module]:
            self._shard_unit(unit, mesh, device)
        self._sharded.append(cast("FSDPModule", module))
        return module

    def _units_of(self, module: nn.Module) -> list[nn.Module]:
        """What gathers its parameters by itself, below the root.

        The root gathers what is left once in a step. A step that goes forward and back several times, as with
        two optimizers, needs that at every pass: then what the root calls are units as well.
        """
        chosen = choose_units(module, self.auto_wrap_policy)
        if getattr(module, "automatic_optimization", True):
            return chosen
        called = partial(operator.contains, topmost(module))
        return chosen + [unit for unit in choose_units(module, called) if unit not in chosen]

    def _shard_unit(self, unit: nn.Module, mesh: Any, device: torch.device) -> None:
        """One unit at a time gets its memory and its values, so that the whole model never needs to fit."""
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

        materialize(unit, device)
        if self.sync_module_states:
            self.sync_states(unit, device)
        offload = CPUOffloadPolicy(pin_memory=device.type == "cuda") if self.cpu_offload else OffloadPolicy()
        fully_shard(
            unit,
            mesh=mesh,
            reshard_after_forward=self.reshard_after_forward,
            mp_policy=self._mixed_precision_policy(),
            offload_policy=offload,
            **self.fsdp_options,
        )

    def _mixed_precision_policy(self) -> "MixedPrecisionPolicy":
        """What is gathered and reduced in which type; operations are cast by the precision's autocast."""
        from torch.distributed.fsdp import MixedPrecisionPolicy

        if self.mixed_precision is not None:
            return self.mixed_precision
        policy: Any = self.precision
        return MixedPrecisionPolicy(
            param_dtype=getattr(policy, "param_dtype", None),
            reduce_dtype=getattr(policy, "reduce_dtype", None),
            cast_forward_inputs=False,
        )

    def forward_of(
        self, module: nn.Module, name: str, device: torch.device
    ) -> tuple[Callable[..., Any], NoSync]:
        """`module.<name>`, which gathers the root's parameters as its forward pass does."""
        from torch.distributed.fsdp import register_fsdp_forward_method

        if (
            self._is_sharded(module)
            and name != "forward"
            and not hasattr(vars(module).get(name), "__wrapped__")
        ):
            register_fsdp_forward_method(module, name)
        return getattr(module, name), partial(self.no_sync, module)

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Backward inside adds to whole gradients on this process, which takes their memory."""
        return _unsynced([cast("FSDPModule", part) for part in module.modules() if self._is_sharded(part)])

    def sync_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Reduce what backward kept to this process, as the end of a synchronised backward would."""
        for module in self._sharded:
            module.set_requires_gradient_sync(True)
            cast("Any", module)._get_fsdp_state()._root_post_backward_final_callback()

    def disconnect(self) -> None:
        """Leave the group and let go of the modules."""
        self._sharded.clear()
        super().disconnect()

    @staticmethod
    def _is_sharded(module: nn.Module) -> bool:
        from torch.distributed.fsdp import FSDPModule

        return isinstance(module, FSDPModule)

    def _refuse_unknown(self, options: dict[str, Any]) -> None:
        from blixt.fabric.errors import reject_unknown

        own = (*FSDPStrategy.__init__.__annotations__, "shard_placement_fn", "ignored_params")
        reject_unknown(type(self).__name__, (name for name in options if name not in own), own)


@contextmanager
def _unsynced(parts: "list[FSDPModule]") -> Generator[None]:
    for part in parts:
        part.set_requires_gradient_sync(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_requires_gradient_sync(True, recurse=False)


def recompute(part: nn.Module) -> None:
    """Let the module forget its activations, and compute them again when backward needs them."""
    checkpoint: Any = import_module("torch.utils.checkpoint").checkpoint
    forward: Callable[..., Any] = part.forward
    part.forward = partial(checkpoint, forward, use_reentrant=False)


def _known_sharding(name: Any) -> Any:
    if name == "NO_SHARD":
        reason = "nothing would be sharded"
        raise ConfigError("FSDPStrategy(sharding_strategy)", name, reason, "Use strategy='ddp'")
    known = (None, "FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD")
    if name not in known:
        fix = "Known are FULL_SHARD, SHARD_GRAD_OP and HYBRID_SHARD"
        raise ConfigError("FSDPStrategy(sharding_strategy)", name, "there is no such way", fix)
    return name
