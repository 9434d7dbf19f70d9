"""An adapter on the embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.lora.layer import LoRALayer, place_of


class LoRAEmbedding(LoRALayer):
    """An embedding plus a trained product: the row of token t is W_t + scale * B A_t.

    An output layer that shares the embedding keeps the frozen one, in training and after merging.

    Args:
        base: The embedding; it is frozen.
        r: Rank.
        scale: Of the product.

    Attributes:
        lora_a: (r, V), zero at first.
        lora_b: (D, r).
    """

    def __init__(self, base: nn.Module, r: int, scale: float) -> None:
        super().__init__(base)
        self.r, self.scale = r, scale
        vocab, width = self.weight.shape
        device, dtype = place_of(base)
        self.lora_a = nn.Parameter(torch.zeros(r, vocab, device=device, dtype=dtype))
        self.lora_b = nn.Parameter(torch.empty(width, r, device=device, dtype=dtype))
        nn.init.normal_(self.lora_b)

    @property
    def weight(self) -> Tensor:
        """The frozen weight (V, D), for an output layer that shares it."""
        return self.original.get_parameter("weight")

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ids (...) to rows (..., D)."""
        y = self.base(tokens)
        if not self.enabled or self.merged:
            return y
        return y + embedded(self.lora_a, self.lora_b, self.scale, tokens).to(y.dtype)

    def folded(self) -> nn.Module:
        """An embedding of the sums."""
        product = self.lora_a.float().T @ self.lora_b.float().T
        with torch.device("meta"):
            made = nn.Embedding(self.weight.shape[0], self.weight.shape[1])
        summed = self.weight.float() + self.scale * product
        made.weight = nn.Parameter(summed.to(self.weight.dtype), requires_grad=False)
        return made.train(self.base.training)

    def extra_repr(self) -> str:
        """Rank and scale."""
        return f"r={self.r}, scale={self.scale:g}"


def embedded(a: Tensor, b: Tensor, scale: float, tokens: Tensor) -> Tensor:
    """What a product of a (r, V) and b (D, r) adds to the rows of tokens (...)."""
    return F.linear(F.embedding(tokens, a.T), b) * scale
