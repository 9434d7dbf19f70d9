"""Output layers to lose on, small enough for finite numbers and with everything a family may ask of them."""

from typing import Any

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """An output layer with a bias, a multiplier and a softcap: what `GPT.logits` may have."""

    def __init__(
        self, d: int = 12, vocab: int = 37, softcap: float = 0.0, scale: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(d, vocab)
        self.softcap, self.scale = softcap, scale
        self.widest = 0

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V); remembers how many rows it saw at once."""
        self.widest = max(self.widest, hidden.shape[:-1].numel())
        out = self.head(hidden) * self.scale
        return self.softcap * torch.tanh(out / self.softcap) if self.softcap else out


def batch(shape: tuple[int, ...] = (3, 11), d: int = 12, vocab: int = 37, seed: int = 0) -> dict[str, Any]:
    """Hidden states, targets and a mask with about half of the positions."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden": torch.randn(*shape, d, generator=generator),
        "targets": torch.randint(0, vocab, shape, generator=generator),
        "mask": torch.rand(shape, generator=generator) < 0.5,
    }
