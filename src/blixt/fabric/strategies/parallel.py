"""Processes that share layers (tensor parallel), sequences (context parallel) and data, on a named grid."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import torch
from torch import nn

from blixt.fabric.cluster import World
from blixt.fabric.errors import ConfigError, nearest
from blixt.fabric.mesh import Parallel, flat
from blixt.fabric.strategies.context import gathered_attention
from blixt.fabric.strategies.fsdp import FSDPStrategy
from blixt.fabric.strategies.materialize import is_meta, parts_of
from blixt.fabric.strategies.units import choose_units

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Plan = Mapping[str, Any]
"""Names of submodules, with "*" for any part of one, to "colwise", "rowwise", "sequence" or a torch
`ParallelStyle`."""


class ParallelStrategy(FSDPStrategy):
    """A model made parallel by your function or plan, on the grid that `Parallel` describes.

    Axes of the grid are called "pp", "dp_replicate", "dp_shard", "cp" and "tp". After the function or plan,
    parameters are sharded over the axes of data and sequences as FSDP does it, unless the function has
    called `fully_shard` itself.

    Args:
        parallel: How many processes share what.
        parallelize_fn: Called as `parallelize_fn(module, device_mesh)`; returns the module.
        plan: What happens to which submodule along "tp", in place of a function.
        fsdp: What `FSDPStrategy` takes besides.

    Example:
        >>> strategy = ParallelStrategy(Parallel(tp=2), plan={"layers.*.up": "colwise", "layers.*.down": "rowwise"})
        >>> strategy.parallel.tp
        2
    """  # noqa: E501 - the example reads better in a line

    name = "parallel"

    def __init__(
        self,
        parallel: Parallel | None = None,
        *,
        parallelize_fn: Callable[[Any, "DeviceMesh"], nn.Module] | None = None,
        plan: Plan | None = None,
        **fsdp: Any,
    ) -> None:
        if parallelize_fn is not None and plan is not None:
            reason = "parallelize_fn decides the same"
            raise ConfigError("ParallelStrategy(plan)", sorted(plan), reason, "Give one of the two")
        if parallel is not None and parallel.pp != 1:
            reason = "this strategy does not divide a model into stages"
            raise ConfigError("Parallel(pp)", parallel.pp, reason, "Use PipelineStrategy")
        super().__init__(parallel=parallel, **fsdp)
        self.parallelize_fn = parallelize_fn
        self.plan = plan
        self._finished: WeakSet[nn.Module] = WeakSet()

    def connect(self, world: World, backend: str) -> None:
        """Meet the others; a "tp" axis needs something that says what to do along it."""
        super().connect(world, backend)
        self._check_axes()

    def _check_axes(self) -> None:
        if self.parallel.tp > 1 and self.parallelize_fn is None and self.plan is None:
            reason = "nothing says how layers are shared"
            raise ConfigError("Parallel(tp)", self.parallel.tp, reason, "Give parallelize_fn or plan")
        if self.parallel.tp > 1 and self.parallel.dp_shard > 1:
            # One reduction of the gradients' norm.
            flat(self.device_mesh, ("dp_shard", "tp"), "dp_shard_tp", self.timeout_s)

    def shard(self, module: nn.Module, device: torch.device, *, move_to_device: bool = True) -> nn.Module:
        """Apply the function or plan, then shard what it left whole over data and sequences."""
        if module in self._finished:
            return module
        module = self._divided(self.sync_layers(module), device, move_to_device)
        self._finished.add(module)
        return module

    def _divided(self, module: nn.Module, device: torch.device, move_to_device: bool) -> nn.Module:
        if self.parallelize_fn is not None or self.plan is not None:
            if not is_meta(module):
                module = module.to(device)
                if self.sync_module_states:
                    self.sync_states(module, device)
            module = self._parallelize(module)
        if any(self._is_sharded(part) for part in module.modules()):
            self._sharded += [cast("Any", part) for part in module.modules() if self._is_sharded(part)]
            return self._leave_rest(module, device)
        sizes = self.parallel
        if sizes.data_parallel_size * sizes.cp > 1 and not self.leaves_whole():
            return super().shard(module, device, move_to_device=move_to_device)
        return self._leave_rest(module, device)

    def leaves_whole(self) -> bool:
        """Whether parameters that the function or plan did not touch are left as they are."""
        return False

    def _parallelize(self, module: nn.Module) -> nn.Module:
        if self.parallelize_fn is not None:
            made = self.parallelize_fn(module, self.device_mesh)
            if not isinstance(cast("object", made), nn.Module):
                reason = "it returned no module"
                raise ConfigError("ParallelStrategy(parallelize_fn)", made, reason, "Return the module")
            return made
        apply_plan(module, self.device_mesh["tp"], self.plan or {})
        return module

    def _leave_rest(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Nothing is sharded by us: give memory to what has none, in place."""
        from blixt.fabric.strategies.fsdp import recompute
        from blixt.fabric.strategies.materialize import materialize

        argument = "activation_checkpointing_policy"
        for part in choose_units(module, self.activation_checkpointing_policy, argument):
            recompute(part)
        materialize(module, device)
        return module.to(device)

    @contextmanager
    def context_parallel(
        self, buffers: list[torch.Tensor], sequence_dims: list[int], *, restore: bool = True
    ) -> Generator[None]:
        """While inside, each process along "cp" sees its part of the sequences in `buffers`.

        Attention has to be `scaled_dot_product_attention`, without a mask of one's own. On CUDA it exchanges
        keys and values around a ring; elsewhere, where torch has none, each process gathers them.

        Args:
            buffers: Inputs, targets, position tables: every tensor with a sequence dimension.
            sequence_dims: Which dimension that is, a buffer each.
            restore: Give the buffers their whole content back at the end. That changes them in place, so
                backward has to come before the end then. In a `training_step`, whose backward comes after it,
                use False, on buffers that nobody reads later.
        """
        if self.parallel.cp == 1:
            yield
            return
        if self.root_device.type != "cuda":
            group: Any = self.device_mesh["cp"].get_group()
            with gathered_attention(group, buffers, sequence_dims, restore):
                yield
            return
        from torch.distributed.tensor.experimental import context_parallel

        ring: Any = context_parallel(
            self.device_mesh["cp"],
            buffers=buffers,
            buffer_seq_dims=sequence_dims,
            no_restore_buffers=set() if restore else set(buffers),
        )
        with ring:
            yield


def apply_plan(module: nn.Module, mesh: "DeviceMesh", plan: Plan) -> None:
    """`parallelize_module` with names of styles, and patterns for names of modules.

    Raises:
        ConfigError: When a pattern fits no submodule, or a style is unknown.
    """
    from torch.distributed.tensor.parallel import parallelize_module

    names = [name for name, _ in parts_of(module)]
    styles: dict[str, Any] = {}
    for pattern, style in plan.items():
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            reason = f"{type(module).__name__} has no submodule of this name"
            raise ConfigError("ParallelStrategy(plan)", pattern, reason, nearest(pattern, names).rstrip("?"))
        styles.update(dict.fromkeys(fitting, style))
    for name, style in styles.items():
        part = module.get_submodule(name)
        made = _style(style)
        _refuse_uneven(name, part, made, mesh.size())
        parallelize_module(part, mesh, made)


def _style(style: Any) -> Any:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel

    known: dict[str, Callable[[], Any]] = {
        "colwise": ColwiseParallel,
        "rowwise": RowwiseParallel,
        "colwise_rep": lambda: ColwiseParallel(output_layouts=Replicate()),
        "rowwise_rep": lambda: RowwiseParallel(input_layouts=Replicate()),
        "sequence": SequenceParallel,
    }
    if not isinstance(style, str):
        return style
    if style not in known:
        reason = "there is no such style"
        raise ConfigError("ParallelStrategy(plan)", style, reason, nearest(style, known).rstrip("?"))
    return known[style]()


def _refuse_uneven(name: str, part: nn.Module, style: Any, size: int) -> None:
    """Layers whose outputs stay local must divide evenly, or processes would compute different things."""
    if not isinstance(part, nn.Linear):
        return
    kind = type(style).__name__
    wide: Iterable[tuple[str, str, int]] = (
        ("ColwiseParallel", "out_features", part.out_features),
        ("RowwiseParallel", "in_features", part.in_features),
    )
    for style_name, attribute, features in wide:
        if kind == style_name and features % size:
            reason = f"{attribute}={features} of {name!r} cannot be divided by {size} processes"
            raise ConfigError("Parallel(tp)", size, reason, "Choose a divisor of it")
