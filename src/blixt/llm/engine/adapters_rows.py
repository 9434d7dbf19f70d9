"""Adapters on what is no linear layer: an adapter's own rows are computed by themselves.

Experts, routers and embeddings of a batch with several adapters run once for all rows with the base weights,
and once more for the rows of each adapter that changes them. That is right whatever they are; unlike linear
layers they share nothing between adapters.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from blixt.llm.errors import AdapterError
from blixt.llm.lora.embedding import LoRAEmbedding
from blixt.llm.lora.experts import LoRAExperts, LoRARouter, stack_shape
from blixt.llm.lora.product import Product
from blixt.llm.moe import Experts, Router

Groups = Sequence[tuple[int, Tensor]]


class AdaptedRows(nn.Module):
    """A module and what adapters make of it.

    Args:
        base: The module as it was.
        routing: Its `groups` say which rows belong to which adapter.

    Attributes:
        parts: The base with an adapter on it, by the adapter's index.
    """

    def __init__(self, base: nn.Module, routing: Any) -> None:
        super().__init__()
        self.base = base
        self.parts: dict[int, nn.Module] = {}
        self._routing = routing

    @property
    def weight(self) -> Tensor:
        """The base's, for an output layer that shares it."""
        return cast("Tensor", self.base.weight)

    def forward(self, *inputs: Tensor) -> Any:
        """As the base, of inputs with one row a token."""
        y = self.base(*inputs)
        alone = getattr(self.base, "row_by_row", False)  # a row's bits depend on no other row
        for index, rows in cast("Groups", self._routing.groups):
            part = self.parts.get(index)
            if part is None:
                continue
            for chosen in torch.split(rows, 1) if alone else (rows,):
                y = _replaced(y, chosen, part(*(given[chosen] for given in inputs)))
        return y


def _replaced(y: Any, rows: Tensor, own: Any) -> Any:
    """`y`, or each of several, with some rows computed otherwise."""
    if isinstance(y, Tensor):
        return y.index_copy(0, rows, own)
    olds, news = cast("tuple[Tensor, ...]", y), cast("tuple[Tensor, ...]", own)
    return tuple(old.index_copy(0, rows, new) for old, new in zip(olds, news, strict=True))


def module_of(name: str) -> str:
    """The module that an adapter's product for `name` changes: a stack of experts is part of one."""
    owner, _, part = name.rpartition(".")
    return owner if owner.endswith(".experts") and part in ("gate", "up", "down") else name


def adapted(base: nn.Module, name: str, products: Mapping[str, Product], like: Tensor) -> nn.Module:
    """A module with one adapter on it, beside the base that it shares.

    Args:
        base: Experts, a router or an embedding.
        name: Its name.
        products: What the adapter changes of it, by name.
        like: Has the device and the dtype to compute in.

    Raises:
        AdapterError: The adapter is for a model of another size.
    """
    if isinstance(base, Experts):
        parts = {key.rpartition(".")[2]: product for key, product in products.items()}
        for part, product in parts.items():
            count, out_features, in_features = stack_shape(base, part)
            wanted = ((count, in_features), (count, out_features))
            _check(f"{name}.{part}", product, wanted, (product.a.shape[0::2], product.b.shape[:2]))
        layer: nn.Module = LoRAExperts(base, {part: (p.a.shape[1], p.scale) for part, p in parts.items()})
        values = {f"{part}_lora_{side}": getattr(p, side) for part, p in parts.items() for side in ("a", "b")}
    else:
        (product,) = products.values()
        rows, width = cast("Tensor", base.weight).shape
        wanted = ((width,), (rows,)) if isinstance(base, Router) else ((rows,), (width,))
        _check(name, product, wanted, (product.a.shape[1:], product.b.shape[:1]))
        if product.magnitude is not None:
            raise AdapterError(f"the adapter has row lengths for {name}, which is not supported")
        kind = LoRARouter if isinstance(base, Router) else LoRAEmbedding
        layer = kind(base, product.a.shape[0], product.scale)
        values = {"lora_a": product.a, "lora_b": product.b}
    for key, value in values.items():
        setattr(layer, key, nn.Parameter(value.to(like), requires_grad=False))
    return layer.eval()


def _check(name: str, product: Product, wanted: object, found: object) -> None:
    if wanted != tuple(map(tuple, cast("tuple[torch.Size, torch.Size]", found))):
        raise AdapterError(
            f"the adapter's matrices for {name} are {tuple(product.a.shape)} and {tuple(product.b.shape)}: "
            "it is for a model of another size"
        )
