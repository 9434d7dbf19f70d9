"""Several LoRA adapters on one model at once: each token of a batch is computed with its own.

The base weights are multiplied once for the whole batch; what an adapter adds is computed for its own tokens
only, and nothing at all is done in a batch that names no adapter. After S-LoRA (Sheng et al. 2023,
arXiv:2311.03285).
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from blixt.llm.engine.adapters_rows import AdaptedRows, adapted, module_of
from blixt.llm.errors import AdapterError
from blixt.llm.lora import dense_weight, read_peft
from blixt.llm.lora.product import Product
from blixt.llm.model import GPT
from blixt.llm.moe import Experts, Router

_ROWS = (Experts, Router, nn.Embedding)
"""What is no linear layer and can still be adapted."""


class AdapterSet:
    """The adapters that requests may name, loaded and dropped while the engine runs.

    Layers that an adapter sits on are wrapped in place, and unwrapped when the last one has gone.

    Args:
        model: In evaluation mode, on its device; quantised or not.

    Example:
        ```python
        adapters = AdapterSet(model)
        adapters.add("french", "adapters/french")
        engine = Engine(model, tokenizer, adapters=adapters)
        engine.add(ids, adapter="french")
        ```
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self._routing = _Routing()
        self._indices: dict[str, int] = {}
        self._layers: dict[int, list[str]] = {}  # by index: the layers it sits on
        self._next = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters there are, in the order they came."""
        return tuple(self._indices)

    def add(self, name: str, directory: str | Path) -> int:
        """Load an adapter in PEFT's format: LoRA, rsLoRA or DoRA, with trained biases or not.

        Args:
            name: What requests call it.
            directory: Holds `adapter_config.json` and `adapter_model.safetensors`.

        Returns:
            Its index in `rows`.

        Raises:
            AdapterError: The name is taken, the files are missing or damaged, or the adapter is for another
                model or changes what cannot differ from token to token.
        """
        if name in self._indices:
            raise AdapterError(f"an adapter is called {name!r} already: remove it first")
        read = read_peft(directory, self.model.config)
        _refuse_unserved(name, [*read.products, *read.weights])
        biases = {key.removesuffix(".bias"): value for key, value in read.weights.items()}
        changed = dict.fromkeys(map(module_of, [*read.products, *biases]))
        parts = {layer: self._part(layer, read.products, biases.get(layer)) for layer in changed}
        index, self._next = self._next, self._next + 1
        for layer, part in parts.items():
            cast("dict[int, Any]", self._wrapped(layer).parts)[index] = part
        self._indices[name], self._layers[index] = index, list(parts)
        return index

    def remove(self, name: str) -> None:
        """Drop an adapter and its memory. Requests that name it must have ended.

        Raises:
            AdapterError: There is none of that name.
        """
        index = self.index(name)
        del self._indices[name]
        for layer in self._layers.pop(index):
            wrapped = self._wrapped(layer)
            del wrapped.parts[index]
            if not wrapped.parts:
                self.model.set_submodule(layer, wrapped.base)

    def index(self, name: str) -> int:
        """What stands for an adapter in `rows`; 0 stands for none. A number is never used again.

        Raises:
            AdapterError: There is none of that name.
        """
        if name not in self._indices:
            raise AdapterError(f"no adapter is called {name!r}; loaded: {', '.join(self.names) or 'none'}")
        return self._indices[name]

    def salt(self, name: str) -> str:
        """What keys and values computed with it depend on: its name, and which loading of it."""
        return f"{name}#{self.index(name)}"

    @contextmanager
    def rows(self, indices: Tensor | Sequence[int]) -> Generator[None]:
        """Inside, the model computes each row of a flat batch with its adapter.

        Args:
            indices: One an input row, (N,) integers.
        """
        chosen = torch.as_tensor(indices).cpu()
        device = self.model.embed.weight.device
        self._routing.groups = [
            (index, (chosen == index).nonzero().flatten().to(device))
            for index in self._layers
            if bool((chosen == index).any())
        ]
        try:
            yield
        finally:
            self._routing.groups = []

    def _part(self, layer: str, products: Mapping[str, Product], bias: Tensor | None) -> "_Part | nn.Module":
        base = _base(self.model, layer)
        if not isinstance(base, _ROWS):
            return _part(self.model, layer, products.get(layer), bias)
        if bias is not None:
            raise AdapterError(f"the adapter has a bias for {layer}, which is not supported")
        own = {name: product for name, product in products.items() if module_of(name) == layer}
        return adapted(base, layer, own, self.model.embed.weight)

    def _wrapped(self, layer: str) -> "AdaptedLinear | AdaptedRows":
        module = self.model.get_submodule(layer)
        if not isinstance(module, AdaptedLinear | AdaptedRows):
            kind = AdaptedRows if isinstance(module, _ROWS) else AdaptedLinear
            module = kind(module, self._routing)
            self.model.set_submodule(layer, module)
        return module


class AdaptedLinear(nn.Module):
    """A linear layer and what adapters add to it.

    Attributes:
        base: The layer as it was.
        parts: What each adapter does here, by its index.
    """

    def __init__(self, base: nn.Module, routing: "_Routing") -> None:
        super().__init__()
        self.base = base
        self.in_features: int = cast("Any", base).in_features
        self.out_features: int = cast("Any", base).out_features
        self.parts: dict[int, _Part] = {}
        self._routing = routing

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in) to (N, out); the rows' adapters are those of `AdapterSet.rows`."""
        y: Tensor = self.base(x)
        for index, rows in self._routing.groups:
            part = self.parts.get(index)
            if part is not None:
                y = y.index_copy(0, rows, part.applied(x[rows], y[rows]))
        return y


@dataclass
class _Routing:
    """Which rows of the running batch belong to which adapter."""

    groups: list[tuple[int, Tensor]]

    def __init__(self) -> None:
        self.groups = []


@dataclass(frozen=True)
class _Part:
    """What one adapter does to one layer's output y = W x + base_bias.

    It becomes gain * (y - base_bias + b a x) + bias; without DoRA the gain is 1.
    """

    a: Tensor | None  # (r, in)
    b: Tensor | None  # (out, r), the scale included
    gain: Tensor | None
    base_bias: Tensor | None
    bias: Tensor | None

    def applied(self, x: Tensor, y: Tensor) -> Tensor:
        """The outputs (M, out) that the base gave as `y` for `x` (M, in)."""
        if self.a is not None and self.b is not None:
            y = y + (x @ self.a.t()) @ self.b.t()
        if self.gain is None and self.bias is self.base_bias:
            return y
        if self.base_bias is not None:
            y = y - self.base_bias
        if self.gain is not None:
            y = y * self.gain
        return y if self.bias is None else y + self.bias


def _part(model: GPT, layer: str, product: Product | None, bias: Tensor | None) -> _Part:
    base, like = _base(model, layer), model.embed.weight
    own = cast("Tensor | None", getattr(base, "bias", None))
    if bias is not None and own is None:
        raise AdapterError(f"the adapter has a bias for {layer}, which has none in this model")
    kept = None if own is None else own.detach().to(like.dtype)
    replaced = kept if bias is None else bias.to(like)
    if product is None:
        return _Part(None, None, None, kept, replaced)
    _check_shapes(base, product, layer)
    a, b = product.a.to(like.device).float(), product.b.to(like.device).float() * product.scale
    gain = None
    if product.magnitude is not None:
        lengths = (dense_weight(base).float() + b @ a).square().sum(1).sqrt()
        gain = (product.magnitude.to(like.device).float() / lengths).to(like.dtype)
    return _Part(a.to(like.dtype), b.to(like.dtype), gain, kept, replaced)


def _base(model: GPT, layer: str) -> nn.Module:
    if layer == "head" and model.config.tie:
        raise AdapterError("the adapter changes head, which is the embedding here: merge it into the model")
    try:
        module = model.get_submodule(layer)
    except AttributeError:
        raise AdapterError(f"the adapter is for {layer}, which this model does not have") from None
    base = module.base if isinstance(module, AdaptedLinear | AdaptedRows) else module
    if not hasattr(base, "in_features") and not isinstance(base, _ROWS):
        raise AdapterError(f"the adapter changes {layer}, which is no linear layer: merge it into the model")
    return base


def _check_shapes(base: nn.Module, product: Product, layer: str) -> None:
    wanted = (cast("Any", base).out_features, cast("Any", base).in_features)
    found = (product.b.shape[0], product.a.shape[1])
    if found != wanted:
        raise AdapterError(
            f"the adapter's weight for {layer} is {found[0]} x {found[1]}, the layer's {wanted[0]} x "
            f"{wanted[1]}: it is for a model of another size"
        )


def _refuse_unserved(name: str, changed: Sequence[str]) -> None:
    """Say what cannot be served beside other adapters."""
    for what in changed:
        layer = what.removesuffix(".bias")
        shared = layer not in ("head", "embed") and "." not in layer  # norms
        if shared or what.endswith(".weight") or layer.endswith(".kv_b"):
            raise AdapterError(
                f"adapter {name!r} changes {what}, which all tokens of a batch share: merge it into the model"
            )
