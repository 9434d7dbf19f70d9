"""What an adapter adds to a layer, as two matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Product:
    """What one adapter adds to one layer: scale * b @ a. Stacks of experts have (E, ...) in front.

    Attributes:
        a: (r, in_features); for an embedding (r, V).
        b: (out_features, r); for an embedding (D, r).
        scale: Of the product.
        magnitude: Row lengths of the sum, (out_features,), or None without DoRA.
    """

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None


def side_by_side(
    products: Sequence[Product | None], rows: Sequence[int]
) -> tuple[Tensor, list[Tensor], float]:
    """Products of layers with the same inputs as one: its `a`, the `b` of each layer, and the scale.

    Layers that share their `a` keep it; others stand side by side, with rank the sum of theirs, and those
    without an adapter get zeros.

    Args:
        products: Of each layer; None without an adapter.
        rows: Outputs of each layer.
    """
    present = [product for product in products if product is not None]
    first = present[0]
    shared = len(present) == len(products) and all(torch.equal(p.a, first.a) for p in present)
    width = first.a.shape[-2] if shared else sum(product.a.shape[-2] for product in present)
    parts: list[Tensor] = []
    at = 0
    for product, height in zip(products, rows, strict=True):
        wide = first.b.new_zeros(*first.b.shape[:-2], height, width)
        if product is not None:
            rank = product.a.shape[-2]
            start = 0 if shared else at
            wide[..., start : start + rank] = product.b * (product.scale / first.scale)
            at += rank
        parts.append(wide)
    return (first.a if shared else torch.cat([p.a for p in present], dim=-2)), parts, first.scale
