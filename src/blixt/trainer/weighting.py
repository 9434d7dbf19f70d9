"""Gradients of a window of batches that count each token once, however long the batches are."""

import math
from typing import Any

import torch
from torch.optim import Optimizer

from blixt.fabric import ConfigError, Fabric


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
        self._least: torch.Tensor | None = None

    def weigh(self, loss: torch.Tensor, weight: Any) -> torch.Tensor:
        """The loss to go backward from.

        Raises:
            ConfigError: When the weight is no count. One that lies on a device is looked at by `check`.
        """
        given = _one_number(weight)
        if given.device.type == "cpu":
            if not 0 <= given.item() < math.inf:
                raise _no_count(weight)
        else:
            told = torch.where(given.isfinite(), given, -1.0)
            self._least = told if self._least is None else torch.minimum(self._least, told)
        amount = given.to(loss.device)
        self._sum = amount if self._sum is None else self._sum + amount
        return loss * amount.to(loss.dtype)

    def check(self) -> None:
        """Look at the weights since the last check that lie on a device, which this waits for.

        Raises:
            ConfigError: When one of them was no count.
        """
        least, self._least = self._least, None
        if least is not None and least.item() < 0:
            raise _no_count("a number on the device that is negative or not finite")

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


def _one_number(weight: Any) -> torch.Tensor:
    try:
        return torch.as_tensor(weight).detach().to(torch.float32).reshape(())
    except (TypeError, ValueError, RuntimeError) as error:
        raise _no_count(weight) from error


def _no_count(weight: Any) -> ConfigError:
    shown = tuple(weight.shape) if isinstance(weight, torch.Tensor) and weight.numel() != 1 else weight
    reason = "what a step returns as 'weight' says for how much its batch counts, as one number from 0 on"
    return ConfigError("training_step(weight)", shown, reason, "Return e.g. the number of tokens")
