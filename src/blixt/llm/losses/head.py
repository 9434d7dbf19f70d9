"""A loss from hidden states, a few rows of logits at a time: the whole (N, V) is never there.

A vocabulary of 128k makes the logits the largest tensor of a training step. Rows of the output layer do not
depend on each other, so a loss that is a sum over rows needs only a chunk of them at once. For a sum the
gradients are taken chunk by chunk in the forward pass, while the chunk's logits are there, so that nothing
is computed twice (as in Liger Kernel, Hsu et al. 2024, arXiv:2410.10989); backward only scales them.
"""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType] - torch types it partly

from blixt.llm.errors import LLMError

CPU_ELEMENTS = 1 << 24
"""Logits a chunk holds at most on a CPU when no size is given: 64 MiB of float32."""
DEVICE_ELEMENTS = 1 << 27
"""The same on an accelerator, whose matrix products want more rows: 512 MiB of float32."""

Rows = Callable[[Tensor, slice], Tensor]
"""Losses (n,) of the hidden states (n, D) that are rows `slice` of the whole."""


Arguments = ParamSpec("Arguments")


def eager(function: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """`function`, which torch.compile is to leave as it is: it differentiates inside."""
    return cast("Callable[Arguments, Tensor]", torch.compiler.disable(function))  # pyright: ignore[reportUnknownMemberType] - torch does not type it


class Head(Protocol):
    """What a loss needs of a model: its output layer, with softcap and multipliers."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D)."""
        ...


def head_parameters(model: Head) -> list[nn.Parameter]:
    """The parameters that `model.logits` reads and that are to be trained.

    Those of `model.head`, adapters on it included, or of `model.embed` where the two are tied.
    """
    layer = cast("nn.Module | None", getattr(model, "head", None))
    if layer is None:
        layer = cast("nn.Module | None", getattr(model, "embed", None))
    return [] if layer is None else [p for p in layer.parameters() if p.requires_grad]


def rows_per_chunk(model: Head, hidden: Tensor, chunk: int) -> int:
    """How many rows to take at once.

    Args:
        model: Its `config.vocab` decides when `chunk` is 0.
        hidden: (N, D); its device decides too.
        chunk: What the caller asked for; 0 chooses.

    Raises:
        LLMError: `chunk` is negative.
    """
    if chunk < 0:
        raise LLMError(f"chunk={chunk}: give the number of rows to take at once, or 0 to let it be chosen")
    if chunk:
        return chunk
    vocab = cast(int, getattr(getattr(model, "config", None), "vocab", 1 << 15))
    limit = CPU_ELEMENTS if hidden.device.type == "cpu" else DEVICE_ELEMENTS
    return max(1, limit // vocab)


@eager
def chunked_sum(rows: Rows, hidden: Tensor, parameters: Sequence[nn.Parameter], chunk: int) -> Tensor:
    """The sum of `rows` over all of `hidden`, with exact gradients and no recomputation.

    Args:
        rows: The loss of a chunk.
        hidden: (N, D).
        parameters: What `rows` reads besides its arguments and is to be trained.
        chunk: Rows at once.

    Returns:
        A scalar in float32. It can be differentiated once.
    """
    if torch.is_grad_enabled() and (hidden.requires_grad or parameters):
        return cast(Tensor, _Sum.apply(rows, chunk, hidden, *parameters))  # pyright: ignore[reportUnknownMemberType] - torch does not type apply
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(hidden), chunk):
        part = slice(start, start + chunk)
        total += rows(hidden[part], part).sum()
    return total


@eager
def chunked_rows(rows: Rows, hidden: Tensor, parameters: Sequence[nn.Parameter], chunk: int) -> Tensor:
    """`rows` of all of `hidden` in one (N,), each differentiable on its own.

    With a frozen output layer (LoRA) a row's gradient is scaled by whatever comes from above, so it is taken
    in the forward pass; else the logits of each chunk are computed again in backward.

    Args:
        rows: The loss of a chunk.
        hidden: (N, D).
        parameters: What `rows` reads besides its arguments and is to be trained.
        chunk: Rows at once.

    Returns:
        (N,) in float32.
    """
    if not len(hidden):
        return rows(hidden, slice(0, 0))
    if torch.is_grad_enabled() and hidden.requires_grad and not parameters:
        return cast(Tensor, _FrozenRows.apply(rows, chunk, hidden))  # pyright: ignore[reportUnknownMemberType] - torch does not type apply
    recompute = torch.is_grad_enabled() and bool(parameters)
    found: list[Tensor] = []
    for start in range(0, len(hidden), chunk):
        part = slice(start, start + chunk)
        if recompute:
            found.append(cast(Tensor, checkpoint(rows, hidden[part], part, use_reentrant=False)))
        else:
            found.append(rows(hidden[part], part))
    return torch.cat(found)


class _Sum(torch.autograd.Function):
    """Forward computes the sum and every gradient of it; backward scales them, in place, once."""

    @staticmethod
    def forward(ctx: Any, rows: Rows, chunk: int, hidden: Tensor, *parameters: Tensor) -> Tensor:
        wants_hidden: bool = ctx.needs_input_grad[2]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        sums = [torch.zeros_like(p, dtype=_sum_dtype(p)) for p in parameters]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            with torch.enable_grad():
                h = hidden[part].detach().requires_grad_(wants_hidden)
                loss = rows(h, part).sum()
                sought = [*([h] if wants_hidden else []), *parameters]
                grads: list[Tensor | None] = list(torch.autograd.grad(loss, sought, allow_unused=True))
            total += loss.detach()
            if grad_hidden is not None:
                grad_hidden[part] = cast(Tensor, grads.pop(0))
            for into, grad in zip(sums, grads, strict=True):
                if grad is not None:
                    into += grad
        ctx.grads = (grad_hidden, *(s.to(p.dtype) for s, p in zip(sums, parameters, strict=True)))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise LLMError("the gradients of this loss were used already: compute the loss anew")
        found, ctx.grads = ctx.grads, None
        return (None, None, *(None if grad is None else grad.mul_(grads[0].to(grad.dtype)) for grad in found))


class _FrozenRows(torch.autograd.Function):
    """Rows of losses whose gradients reach only the hidden states."""

    @staticmethod
    def forward(ctx: Any, rows: Rows, chunk: int, hidden: Tensor) -> Tensor:
        grad_hidden = torch.empty_like(hidden)
        found: list[Tensor] = []
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            with torch.enable_grad():
                h = hidden[part].detach().requires_grad_()
                losses = rows(h, part)
                (grad_hidden[part],) = torch.autograd.grad(losses.sum(), h)
            found.append(losses.detach())
        ctx.save_for_backward(grad_hidden)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_hidden,) = ctx.saved_tensors
        return None, None, grad_hidden * grads[0].unsqueeze(-1).to(grad_hidden.dtype)


def _sum_dtype(parameter: Tensor) -> torch.dtype:
    """Sums over many chunks keep float32 where the parameter itself has fewer bits."""
    return torch.promote_types(parameter.dtype, torch.float32)
