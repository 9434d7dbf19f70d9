"""Gradients are cleared in every step, so it is done in the shortest way."""

from collections.abc import Callable

from torch.optim import Optimizer

_TORCHS = Optimizer.zero_grad


def zero_grad_of(optimizer: Optimizer) -> Callable[..., None]:
    """What does as `optimizer.zero_grad` does, in a tenth of its time where that is torch's own.

    Torch puts a label for profilers, and what keeps compilers out, around it: on a small model they take as
    long as the forward pass of a layer. An optimizer that clears gradients in its own way does so here too.

    Example:
        >>> import torch
        >>> weight = torch.ones(2, requires_grad=True)
        >>> clear = zero_grad_of(torch.optim.SGD([weight], lr=0.1))
        >>> weight.sum().backward()
        >>> clear()
        >>> weight.grad is None
        True
    """
    if getattr(type(optimizer), "zero_grad", None) is not _TORCHS or "zero_grad" in vars(optimizer):
        return optimizer.zero_grad

    def zero_grad(set_to_none: bool = True) -> None:
        if not set_to_none:
            return optimizer.zero_grad(set_to_none=False)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    return zero_grad
