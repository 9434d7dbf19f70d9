"""A frozen layer with something trained beside it."""

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoRALayer(nn.Module):
    """Something frozen with trained products beside it, which can become part of it for a while.

    Args:
        base: What is frozen.

    Attributes:
        enabled: False gives the base alone.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.enabled = True
        vars(self)["_original"] = None  # not registered: what is merged is no part of the model's state

    @property
    def merged(self) -> bool:
        """Whether the products are part of the base at the moment."""
        return vars(self)["_original"] is not None

    @property
    def original(self) -> nn.Module:
        """The base as it was before the products became part of it."""
        return vars(self)["_original"] or self.base

    @torch.no_grad()
    def fold(self) -> None:
        """Put the products into a dense base; the original is kept for `unfold`."""
        if not self.merged:
            vars(self)["_original"], self.base = self.base, self.folded()

    def unfold(self) -> None:
        """Take the original base back, to the bit."""
        if self.merged:
            self.base, vars(self)["_original"] = vars(self)["_original"], None

    def folded(self) -> nn.Module:
        """A dense module that does what base and products do together."""
        raise NotImplementedError


class LoRALinear(LoRALayer):
    """Any linear layer plus a trained product of two thin matrices: y = base(x) + scale * B A x.

    LoRA is Hu et al. 2021 (arXiv:2106.09685); with `dora` the rows of the sum have a trained length of their
    own (DoRA, Liu et al. 2024, arXiv:2402.09353). The lengths of W + scale * B A follow from those of W and
    from base(A), so that W itself is never put together: quantised layers serve as any other.

    Args:
        base: Has `in_features` and `out_features`; it is frozen.
        r: Rank.
        scale: Of the product.
        dropout: Share of the inputs of A that is left out in training.
        dora: Train row lengths too.
        train_bias: Train a copy of the layer's bias.

    Attributes:
        lora_a: (r, in_features).
        lora_b: (out_features, r), zero at first: a new adapter changes nothing.
        magnitude: (out_features,) row lengths, or None.
        sum_over_inputs: What DoRA's lengths pass that only know some of the inputs, in tensor parallel.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    magnitude: nn.Parameter | None
    bias: nn.Parameter | None
    squares: Tensor | None

    def __init__(
        self,
        base: nn.Module,
        r: int,
        scale: float,
        *,
        dropout: float = 0.0,
        dora: bool = False,
        train_bias: bool = False,
    ) -> None:
        super().__init__(base)
        self.in_features, self.out_features = (
            int(cast("Any", base).in_features),
            int(cast("Any", base).out_features),
        )
        self.r, self.scale, self.dropout = r, scale, dropout
        self.sum_over_inputs: Callable[[Tensor], Tensor] = _as_it_is  # of ranks that share the inputs
        device, dtype = place_of(base)
        self.lora_a = nn.Parameter(torch.empty(r, self.in_features, device=device, dtype=dtype))
        self.lora_b = nn.Parameter(torch.zeros(self.out_features, r, device=device, dtype=dtype))
        self.register_parameter("magnitude", None)
        self.register_parameter("bias", None)
        self.register_buffer("squares", None, persistent=False)
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        own = _bias_of(base)
        if train_bias and own is not None:
            self.bias = nn.Parameter(own.detach().clone())
        if dora:
            self.squares = dense_weight(base).float().square().sum(1).to(dtype)
            self.magnitude = nn.Parameter(self.squares.sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if not self.enabled or self.merged:
            return self.base(x)
        inner = F.dropout(x, self.dropout) if self.training and self.dropout else x
        if self.magnitude is not None:
            return self._stretched(x, inner)
        return self._with_bias(self._plus_product(self.base(x), inner, self.scale))

    def delta(self) -> Tensor:
        """What merging adds to the weight, (out_features, in_features) in float32; without DoRA's lengths."""
        return self.scale * (self.lora_b.float() @ self.lora_a.float())

    def merged_weight(self) -> Tensor:
        """The weight that does what base and adapter do together, in float32."""
        weight = dense_weight(self.original).float()
        weight = weight + self.delta()
        if self.magnitude is not None:
            lengths = weight.square().sum(1, keepdim=True).sqrt()
            weight = weight * (self.magnitude.float().unsqueeze(1) / lengths)
        return weight

    def folded(self) -> nn.Module:
        """A dense layer of the merged weight."""
        own = _bias_of(self.base)
        bias = own if self.bias is None else self.bias
        return linear_of(self.merged_weight(), bias, dtype_of(self.base))

    def row_lengths(self) -> Tensor:
        """Lengths of the rows of W + scale * B A, (out_features,)."""
        assert self.squares is not None, "only DoRA asks for lengths"
        a, b = self.lora_a, self.lora_b
        across = self._without_bias(self.base(a.to(dtype_of(self.base)))).to(b.dtype)  # A W', (r, out)
        cross = (b * across.T).sum(1)
        own = ((b @ (a @ a.T)) * b).sum(1)
        added = self.sum_over_inputs(2 * self.scale * cross + self.scale**2 * own)
        return (self.squares + added).clamp_min(0).sqrt()

    def _stretched(self, x: Tensor, inner: Tensor) -> Tensor:
        assert self.magnitude is not None
        with torch.no_grad():  # the paper's section 4.3: gradients do not pass the lengths
            lengths = self.row_lengths()
        stretch = self.magnitude / lengths
        y = self._without_bias(self.base(x))
        if inner is x:
            y = self._plus_product(y, x, self.scale) * stretch
        else:
            kept = self._without_bias(self.base(inner))
            y = y - kept + self._plus_product(kept, inner, self.scale) * stretch
        own = _bias_of(self.base)
        bias = own if self.bias is None else self.bias
        y = y.to(x.dtype)
        return y if bias is None else y + bias

    def _plus_product(self, y: Tensor, x: Tensor, scale: float) -> Tensor:
        """y + scale * B A x, in one product that adds where types allow it."""
        thin = F.linear(x.to(self.lora_a.dtype), self.lora_a)
        if (
            y.dtype == thin.dtype == self.lora_b.dtype
            and type(y) is Tensor
            and type(self.lora_b.data) is Tensor
        ):
            flat = torch.addmm(y.flatten(0, -2), thin.flatten(0, -2), self.lora_b.T, alpha=scale)
            return flat.view(y.shape)
        return y + (F.linear(thin, self.lora_b) * scale).to(y.dtype)

    def _without_bias(self, y: Tensor) -> Tensor:
        own = _bias_of(self.base)
        return y if own is None else y - own

    def _with_bias(self, y: Tensor) -> Tensor:
        if self.bias is None:
            return y
        return self._without_bias(y) + self.bias

    def extra_repr(self) -> str:
        """Rank and scale."""
        return f"r={self.r}, scale={self.scale:g}"


class TrainedCopy(nn.Module):
    """A layer trained whole beside its frozen original (PEFT's `modules_to_save`).

    Args:
        base: The original.
        names: Which of its parameters are copied and trained; the rest is shared. Empty means all.

    Attributes:
        enabled: False gives the original.
    """

    def __init__(self, base: nn.Module, names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.copy = copy.deepcopy(base) if not names else _shallow(base)
        for name, parameter in list(base.named_parameters(recurse=False)):
            if not names or name in names:
                setattr(self.copy, name, nn.Parameter(parameter.detach().clone()))
        self.names = names or tuple(name for name, _ in base.named_parameters(recurse=False))
        self.enabled = True

    @property
    def active(self) -> nn.Module:
        """What runs at the moment."""
        return self.copy if self.enabled else self.base

    @property
    def weight(self) -> Tensor:
        """The active layer's, for models that share it."""
        return cast("Tensor", self.active.weight)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the active layer."""
        return self.active(*args, **kwargs)


def dense_weight(layer: nn.Module) -> Tensor:
    """The weight of any linear layer, (out_features, in_features), on its device.

    Quantised layers of ours say it themselves; of others it is what they make of the unit vectors.
    """
    dequantize = getattr(layer, "dequantize", None)
    if callable(dequantize):
        return cast("Tensor", dequantize())
    weight = getattr(layer, "weight", None)
    shape = (cast("Any", layer).out_features, cast("Any", layer).in_features)
    if isinstance(weight, Tensor) and weight.is_floating_point() and tuple(weight.shape) == shape:
        return weight.detach()
    device, dtype = place_of(layer)
    with torch.no_grad():
        out = layer(torch.eye(shape[1], device=device, dtype=dtype_of(layer)))
        own = _bias_of(layer)
        return (out if own is None else out - own).T.to(dtype)


def linear_of(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    """A frozen linear layer of this weight (out, in) and bias."""
    out_features, in_features = weight.shape
    with torch.device("meta"):
        layer = nn.Linear(in_features, out_features, bias=bias is not None)
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=False)
    return layer


def _as_it_is(part: Tensor) -> Tensor:
    return part


def _bias_of(layer: nn.Module) -> Tensor | None:
    own = getattr(layer, "bias", None)
    return own if isinstance(own, Tensor) else None


def _tensors_of(layer: nn.Module) -> list[Tensor]:
    return [*layer.parameters(), *layer.buffers()]


def dtype_of(layer: nn.Module) -> torch.dtype:
    """In what a layer computes."""
    compute = getattr(layer, "compute_dtype", None)
    if isinstance(compute, torch.dtype):
        return compute
    floats = [t.dtype for t in _tensors_of(layer) if t.is_floating_point() and t.dtype.itemsize >= 2]
    return floats[0] if floats else torch.get_default_dtype()


def place_of(layer: nn.Module) -> tuple[torch.device, torch.dtype]:
    """A layer's device, and in what to train beside it: at least float32."""
    tensors = _tensors_of(layer)
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, torch.promote_types(dtype_of(layer), torch.float32)


def _shallow(base: nn.Module) -> nn.Module:
    made = copy.copy(base)
    made._parameters = dict(base._parameters)  # pyright: ignore[reportPrivateUsage] - else both share one dict
    return made
