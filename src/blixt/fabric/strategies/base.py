"""What a strategy does, the same for a hand-written loop and for the Trainer.

Life of a strategy, in order: `configure` (what it shall work with), `connect` (join the other processes),
`init_context` (around the making of a module), `shard` (parameters become what they will be), then `wrap` or
`forward_of` (what to call), `backward`, `clip_norm`, `step` in the loop, `module_state` and its kin for
checkpoints, and `disconnect`.
"""

import os
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.distributed.distributed_c10d import Store
from torch.optim import Optimizer

from blixt.fabric.checkpoint.plugin import CheckpointIO, TorchCheckpointIO
from blixt.fabric.cluster import ClusterEnvironment, World
from blixt.fabric.precision import Precision
from blixt.fabric.strategies.clip import clip_norm, clip_value
from blixt.fabric.strategies.layer_sync import LayerSync
from blixt.fabric.strategies.materialize import materialize, skip_initialization
from blixt.fabric.strategies.saving import load_any, save_full
from blixt.fabric.strategies.states import load_full_module, load_full_optimizer, tensors_of
from blixt.fabric.strategies.verbs import Verbs
from blixt.fabric.strategies.wishes import Wishes

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Launcher = Literal["script", "spawn", "fork", "forkserver"]
StateFormat = Literal["full", "sharded"]
NoSync = Callable[[], AbstractContextManager[Any]]


class Strategy(Verbs, ABC):
    """How a model's parameters, gradients and state are shared among processes.

    Attributes:
        name: What the registry calls it.
        launcher: How it wants its processes made when nobody made them yet; None lets the launch decide.
        state_format: "full": a checkpoint is one file that any strategy reads. "sharded": it is a directory
            that each process writes and reads its part of.
        timeout_s: How long a collective waits for the other processes before it fails.
        wraps_evaluation: Whether evaluation steps must be called through `forward_of` too; then their
            forward passes hold collectives, and all processes need equally many batches.
        guards_forward: Whether methods of the module that compute must run inside its forward pass, although
            `wrap` returns the module itself.
        scales_loss: Whether it scales losses of 16-bit floats itself, so that no gradient scaler is needed.
        world: This process's place among the others; known after `connect`.
        cluster_environment: Who started the processes, or will; known once a Fabric has it.
        precision: Number formats; None until `configure`.
        checkpoint_io: What reads and writes checkpoint files.
        layer_sync: What makes layers see the batches of all processes, or None.
        wishes: What was said to it of accelerator, devices and cluster.
    """

    name: str = "strategy"
    launcher: Launcher | None = None
    state_format: StateFormat = "full"
    timeout_s: float = 1800.0
    wraps_evaluation: bool = False
    guards_forward: bool = False
    scales_loss: bool = False

    world: World = World()
    cluster_environment: ClusterEnvironment | None = None
    precision: Precision | None = None
    layer_sync: LayerSync | None = None
    wishes: Wishes = Wishes()

    def configure(
        self,
        *,
        precision: Precision | None = None,
        checkpoint_io: CheckpointIO | None = None,
        layer_sync: LayerSync | None = None,
    ) -> None:
        """Say what to work with; what is None stays as it is."""
        if precision is not None:
            self.precision = precision
        if checkpoint_io is not None:
            self.checkpoint_io = checkpoint_io
        if layer_sync is not None:
            self.layer_sync = layer_sync

    @property
    def checkpoint_io(self) -> CheckpointIO:
        """What reads and writes checkpoint files; a `TorchCheckpointIO` unless another was given."""
        return vars(self).setdefault("_checkpoint_io", TorchCheckpointIO())

    @checkpoint_io.setter
    def checkpoint_io(self, plugin: CheckpointIO) -> None:
        vars(self)["_checkpoint_io"] = plugin

    # --- processes --------------------------------------------------------------------------------

    def connect(self, world: World, backend: str) -> None:
        """Join the other processes.

        Args:
            world: This process's place.
            backend: Of the process group: "gloo", "nccl"; "" when the devices have none.
        """
        self.world = world

    def disconnect(self) -> None:
        """Leave the other processes, once what is being written is written."""
        vars(self).get("_checkpoint_io", _NOTHING).teardown()

    def side_channel(self) -> Store | None:
        """A store all processes reach, for agreements outside of collectives; None for one process."""
        return None

    @property
    def device_mesh(self) -> "DeviceMesh | None":
        """The named grid of processes, for strategies that have one."""
        return None

    @property
    def data_parallel_size(self) -> int:
        """Among how many groups of processes the data is divided."""
        return self.world.world_size

    @property
    def data_parallel_rank(self) -> int:
        """Which part of the data is this process's; processes that share a model share the part."""
        return self.world.rank

    def on_exception(self, exception: BaseException) -> None:
        """Hear that training ended with an exception."""

    # --- modules ----------------------------------------------------------------------------------

    def init_context(
        self, device: torch.device, empty_init: bool | None = None
    ) -> AbstractContextManager[Any]:
        """Around the making of a module: its tensors are made where they will live.

        Args:
            device: This process's device.
            empty_init: Skip the filling of parameters, because a checkpoint will. None lets the strategy
                choose.
        """
        return skip_initialization(device) if empty_init else torch.device(device)

    def tensor_init_context(self, device: torch.device) -> AbstractContextManager[Any]:
        """Around the making of a tensor: on this process's device."""
        return torch.device(device)

    def shard(self, module: nn.Module, device: torch.device, *, move_to_device: bool = True) -> nn.Module:
        """Make the module's parameters what they will be in training; optimizers come after this.

        Args:
            module: The whole module, possibly on the meta device.
            device: This process's device.
            move_to_device: Move parameters and buffers there.

        Returns:
            The module to go on with, usually the same object.
        """
        module = self.sync_layers(module)
        materialize(module, device)
        return module.to(device) if move_to_device else module

    def sync_layers(self, module: nn.Module) -> nn.Module:
        """The module with layers that see the batches of all processes, where that was asked for."""
        several = self.data_parallel_size > 1
        return self.layer_sync.apply(module) if self.layer_sync is not None and several else module

    def setup_optimizers(
        self, module: nn.Module, optimizers: list[Optimizer], device: torch.device
    ) -> list[Optimizer]:
        """The optimizers to go on with; called between `shard` and `wrap` or `forward_of`."""
        return optimizers

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module to call in the forward pass, from one that `shard` returned."""
        return module

    def forward_of(
        self, module: nn.Module, name: str, device: torch.device
    ) -> tuple[Callable[..., Any], NoSync]:
        """How to call `module.<name>` so that the strategy sees it as a forward pass.

        Returns:
            The callable, and a function that makes a context in which backward keeps gradients local.
        """
        return getattr(module, name), nullcontext

    # --- a step -----------------------------------------------------------------------------------

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """A context in which backward keeps gradients to this process; `module` is what `wrap` returned."""
        return nullcontext()

    def activate(self, module: nn.Module) -> None:
        """Say which module, of several that `wrap` returned, the next backward belongs to."""

    def backward(self, tensor: torch.Tensor, **kwargs: Any) -> None:
        """Compute gradients of `tensor`."""
        tensor.backward(**kwargs)  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped

    def step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the optimizer."""
        return optimizer.step() if closure is None else optimizer.step(closure)

    def sync_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients that were kept to this process: a window ended where nobody could foresee it."""

    def clip_norm(
        self,
        parameters: Iterable[nn.Parameter],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
    ) -> torch.Tensor:
        """Scale gradients so that their total norm over all processes is at most `max_norm`.

        Returns:
            The norm before, the same on every process.
        """
        return clip_norm(parameters, max_norm, norm_type, error_if_nonfinite)

    def clip_value(self, parameters: Iterable[nn.Parameter], bound: float) -> None:
        """Clamp every gradient to [-bound, bound]."""
        clip_value(parameters, bound)

    # --- state ------------------------------------------------------------------------------------

    def module_state(self, module: nn.Module) -> dict[str, Any]:
        """The module's state under its own names; call it on all processes.

        With the state format "full" it is whole on rank 0, and whole or {} elsewhere. Tensors may be the
        live ones: whoever writes them later than now copies them first, as `AsyncCheckpointIO` does.
        """
        self.checkpoint_io.expect_steady(module.parameters())
        return module.state_dict()

    def load_module_state(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        """Give a sharded module its state, in whichever format it was saved; returns torch's key report."""
        return load_full_module(module, state, strict)

    def optimizer_state(self, module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's state in the shape of `Optimizer.state_dict`; call it on all processes.

        With the state format "full", parameters are numbered as torch does, so that any strategy (and plain
        torch) can load it; with "sharded" they are named, so that any number of processes can.
        """
        self.checkpoint_io.expect_steady(tensors_of(optimizer))
        return optimizer.state_dict()

    def load_optimizer_state(self, module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Give the optimizer of a sharded module its state, in whichever format it was saved."""
        load_full_optimizer(module, optimizer, state)

    # --- checkpoints ------------------------------------------------------------------------------

    def save_checkpoint(
        self, path: str | os.PathLike[str], content: Mapping[str, Any], *, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; call it on all processes.

        Returns on all processes when it is written (or staged, see `AsyncCheckpointIO`), and raises on all
        when the writer failed.
        """
        save_full(self.checkpoint_io, path, content, storage_options, self.world)

    def load_checkpoint(
        self, path: str | os.PathLike[str], *, weights_only: bool = True, map_location: Any = "cpu"
    ) -> dict[str, Any]:
        """Read a checkpoint of either format.

        Of a sharded one the module's and optimizers' states come as mappings that read their tensors when
        `load_module_state` and `load_optimizer_state` (or a look at a value) ask for them.
        """
        return load_any(self.checkpoint_io, path, weights_only=weights_only, map_location=map_location)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint of either format; rank 0 does it, nothing happens elsewhere."""
        if self.world.rank == 0:
            self.checkpoint_io.remove_checkpoint(path)


class _Nothing:
    def teardown(self) -> None:
        """There is no plug-in to end."""


_NOTHING = _Nothing()
