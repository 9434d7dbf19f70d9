"""Tensor parallel: the ranks of an axis share every layer's work, decided from outside of the model file."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from torch.distributed.tensor import (
    DTensor,
    Replicate,
    Shard,
    distribute_tensor,  # pyright: ignore[reportUnknownVariableType] - torch types it partly
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,  # pyright: ignore[reportUnknownVariableType] - torch types it partly
)

from blixt.llm.errors import RecipeError
from blixt.llm.lora.add import is_linear
from blixt.llm.lora.layer import LoRALayer, LoRALinear, TrainedCopy
from blixt.llm.model import GPT
from blixt.llm.parallel.exchange import summed, summed_backward
from blixt.llm.parallel.layout import Layout
from blixt.llm.quant.base import QuantLinear

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Plan = dict[str, ParallelStyle]
"""Names of submodules to what happens to them along the axis."""


def plan_of(model: nn.Module, size: int) -> Plan:
    """The plan of decoders on `size` ranks: a style for each module with a parameter that is divided.

    Args:
        model: A `GPT`, or a module that holds some (a policy and its reference, a student and its teacher);
            each one's configuration and its parameters' names decide.
        size: Number of ranks.

    Raises:
        RecipeError: The size divides nothing, or an adapter is of a kind that cannot be divided.
    """
    plan: Plan = {}
    decoders: list[tuple[str, GPT]] = [
        (name, part) for name, part in cast("Any", model).named_modules() if isinstance(part, GPT)
    ]
    for start, decoder in decoders:
        layout = Layout(decoder.config, size)
        layout.check()
        for name, part in cast("Any", decoder).named_modules():
            style = _style(layout, name, part)
            if style is not None:
                plan[f"{start}.{name}" if start else name] = style
    return plan


def apply_tensor_parallel(model: nn.Module, mesh: "DeviceMesh") -> nn.Module:
    """Divide decoders among the ranks of a one-dimensional mesh, in place.

    Every rank must hold the same whole values; afterwards each has its part, and the module gives every rank
    the same whole outputs.
    """
    for name, style in plan_of(model, mesh.size()).items():
        cast("Any", parallelize_module)(model.get_submodule(name), mesh, style)
    return model


class Divided(ParallelStyle):
    """Each rank runs the module on its own part of the parameters.

    Args:
        dims: Dimension of each parameter that is divided, by its name in the module.
        partial: Whole parameters of whose gradient each rank finds a part.
        enters: The inputs are whole, and each rank finds a part of their gradient.
        leaves: The outputs are to be added over the ranks.
    """

    def __init__(
        self,
        dims: dict[str, int],
        partial: Sequence[str] = (),
        *,
        enters: bool = False,
        leaves: bool = False,
    ) -> None:
        super().__init__()
        self.dims, self.partial, self.enters, self.leaves = dims, partial, enters, leaves

    def _apply(self, module: nn.Module, device_mesh: "DeviceMesh") -> nn.Module:
        for name, dim in self.dims.items():
            owner, leaf = _owner(module, name)
            parameter = owner.get_parameter(leaf)
            part: Any = cast("Any", distribute_tensor)(parameter.data, device_mesh, [Shard(dim)])
            owner.register_parameter(leaf, nn.Parameter(part, parameter.requires_grad))
        module.forward = partial(self._run, module, module.forward, device_mesh)
        return module

    def _run(self, module: nn.Module, forward: Any, mesh: "DeviceMesh", *inputs: Any) -> Any:
        """`forward` with this rank's parts in place of the parameters."""
        given = [summed_backward(x, mesh) for x in inputs] if self.enters else inputs
        wanted = [*self.dims, *self.partial]
        kept = {name: _owner(module, name)[0].get_parameter(_owner(module, name)[1]) for name in wanted}
        try:
            for name, parameter in kept.items():
                owner, leaf = _owner(module, name)
                owner._parameters[leaf] = cast("Any", self._local(name, parameter, mesh))  # pyright: ignore[reportPrivateUsage] - a tensor for the time of the call
            out = forward(*given)
        finally:
            for name, parameter in kept.items():
                owner, leaf = _owner(module, name)
                owner._parameters[leaf] = parameter  # pyright: ignore[reportPrivateUsage] - the parameter again
        return summed(out, mesh) if self.leaves else out

    def _local(self, name: str, parameter: Tensor, mesh: "DeviceMesh") -> Tensor:
        if isinstance(parameter, DTensor):
            return parameter.to_local()
        whole = summed_backward(parameter, mesh)
        # What every rank adds to outputs that are summed has to count once.
        return whole / mesh.size() if self.leaves and name.endswith("bias") else whole


class DividedAdapter(Divided):
    """An adapter and its base, divided alike: both by outputs (dim 0), or both by inputs (dim 1).

    Args:
        layer: A `LoRALinear`, on a base of ours, with or without DoRA's lengths.
        dim: Of the weight.
        enters: As in `Divided`, for a layer divided by outputs.
    """

    def __init__(self, layer: LoRALinear, dim: int, *, enters: bool) -> None:
        whole = [name for name in ("bias", "base.bias") if _has(layer, name)]
        weights = [name for name in ("base.weight",) if _has(layer, name)]
        lengths = ["magnitude"] if layer.magnitude is not None else []
        self.dim = dim
        if dim == 1:
            divided = dict.fromkeys([*weights, "lora_a"], 1)
            super().__init__(divided, ["lora_b", *lengths, *whole], leaves=True)
        else:
            divided = dict.fromkeys([*weights, "lora_b", *lengths, *whole], 0)
            super().__init__(divided, ["lora_a"], enters=enters)

    def _apply(self, module: nn.Module, device_mesh: "DeviceMesh") -> nn.Module:
        layer = cast("LoRALinear", module)
        if isinstance(layer.base, QuantLinear):
            _keep_part(layer.base, self.dim, device_mesh)
        if layer.squares is not None and self.dim == 0:
            layer.squares = layer.squares.chunk(device_mesh.size())[device_mesh.get_local_rank()]
        elif layer.squares is not None:
            layer.sum_over_inputs = lambda part: summed(part, device_mesh)
        return super()._apply(module, device_mesh)


class DividedQuant(ParallelStyle):
    """A frozen layer of few bits, of which each rank keeps some outputs (dim 0) or inputs (dim 1)."""

    def __init__(self, dim: int, *, enters: bool) -> None:
        super().__init__()
        self.dim, self.enters = dim, enters

    def _apply(self, module: nn.Module, device_mesh: "DeviceMesh") -> nn.Module:
        _keep_part(cast("QuantLinear", module), self.dim, device_mesh)
        module.forward = partial(self._run, module.forward, device_mesh)
        return module

    def _run(self, forward: Callable[[Tensor], Tensor], mesh: "DeviceMesh", x: Tensor) -> Tensor:
        out = forward(summed_backward(x, mesh) if self.dim == 0 and self.enters else x)
        return summed(out, mesh) if self.dim == 1 else out


class SharedInput(ParallelStyle):
    """A whole layer whose outputs go to divided heads: its outputs' gradient is the ranks' sum."""

    def _apply(self, module: nn.Module, device_mesh: "DeviceMesh") -> nn.Module:
        forward = module.forward
        module.forward = lambda *inputs: summed_backward(forward(*inputs), device_mesh)
        return module


def _style(layout: Layout, name: str, part: nn.Module) -> ParallelStyle | None:
    """What happens to one module; None for nothing."""
    if name.endswith("attn.kv_a") and layout.partial(f"{name}_norm.weight"):
        return SharedInput()  # with an adapter or in few bits, too
    if isinstance(part, LoRALinear):
        return _adapter(layout.dim(f"{name}.weight"), name, part)
    if isinstance(part, LoRALayer):
        raise RecipeError(
            f"{name} has an adapter, which cannot be divided there: leave it out of lora.targets, or tp"
        )
    if isinstance(part, TrainedCopy):
        if layout.dim(f"{name}.weight") is not None:
            raise RecipeError(
                f"{name} is trained whole and cannot be divided: leave it out of lora.save, or tp"
            )
        return None
    if name.endswith((".base", ".copy")):
        return None
    if is_linear(part) and not isinstance(part, nn.Linear):
        return _frozen(layout.dim(f"{name}.weight"), name, part)
    own = {leaf: layout.dim(f"{name}.{leaf}") for leaf, _ in part.named_parameters(recurse=False)}
    dims = {leaf: dim for leaf, dim in own.items() if dim is not None}
    whole = [leaf for leaf in own if layout.partial(f"{name}.{leaf}")]
    if not dims and not whole:
        return None
    if isinstance(part, nn.Embedding):
        return RowwiseParallel(input_layouts=Replicate())
    if isinstance(part, nn.Linear) and not name.endswith("attn.kv_b"):
        if dims["weight"] == 1:
            return RowwiseParallel()
        return ColwiseParallel(output_layouts=Replicate()) if name == "head" else ColwiseParallel()
    experts = name.endswith("mlp.experts")
    return Divided(dims, whole, enters=experts, leaves=experts)


def _adapter(dim: int | None, name: str, layer: LoRALinear) -> ParallelStyle | None:
    if dim is None:
        return None
    if type(layer.base) is not nn.Linear and not isinstance(layer.base, QuantLinear):
        raise RecipeError(f"{name} has a base of another library, which cannot be divided: use parallel.tp=1")
    return DividedAdapter(layer, dim, enters=not name.endswith("attn.kv_b"))


def _frozen(dim: int | None, name: str, layer: nn.Module) -> ParallelStyle | None:
    if dim is None:
        return None
    if not isinstance(layer, QuantLinear):
        raise RecipeError(f"{name} is a layer of another library, which cannot be divided: use parallel.tp=1")
    return DividedQuant(dim, enters=not name.endswith("attn.kv_b"))


def _keep_part(layer: QuantLinear, dim: int, mesh: "DeviceMesh") -> None:
    layer.keep_part(dim, mesh.get_local_rank(), mesh.size())
    if dim == 1 and layer.bias is not None:
        layer.bias = layer.bias / mesh.size()  # every rank adds it to what is summed


def _has(layer: nn.Module, name: str) -> bool:
    owner, leaf = _owner(layer, name)
    return owner._parameters.get(leaf) is not None  # pyright: ignore[reportPrivateUsage] - no public way to ask


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    owner, _, leaf = name.rpartition(".")
    return module.get_submodule(owner), leaf
