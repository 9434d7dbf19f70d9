"""Gradients of a window of batches that count each token once, however long the batches are."""

from typing import Any

import torch
from torch.optim import Optimizer

from blixt.fabric import Fabric


class TokenWeights:
    """Sums the weights of a window and divides its gradients by them once, before the optimizer moves.

    With losses l_i (means over w_i tokens each) over batches and processes, the gradient becomes that of
    sum(w_i * l_i) / sum(w_i): the mean over all tokens of the window.

    Args:
        fabric: The processes among which the weights are summed.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._sum: Any = None

    def weigh(self, loss: torch.Tensor, weight: Any) -> torch.Tensor:
        """The loss to go backward from."""
        amount = torch.as_tensor(weight, device=loss.device).detach().to(torch.float32).reshape(())
        self._sum = amount if self._sum is None else self._sum + amount
        return loss * amount.to(loss.dtype)

    def divide(self, optimizer: Optimizer) -> None:
        """Bring the window's gradients to the mean over its tokens, and begin a new window."""
        if self._sum is None:
            return
        total = self._sum
        if self._fabric.world_size > 1:
            # Processes have averaged their gradients, so what is missing is the mean of their weights.
            total = self._fabric.all_reduce(total, reduce_op="mean")
        scale = torch.where(total > 0, 1.0 / total, torch.zeros_like(total))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = parameter.grad
                    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
                    local.mul_(scale.to(local.dtype))
        self._sum = None
