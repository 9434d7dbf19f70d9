"""Less memory and more speed without touching the model file: recomputed activations, compiled blocks."""

from functools import partial
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,  # pyright: ignore[reportUnknownVariableType] - torch types it partly
    create_selective_checkpoint_contexts,  # pyright: ignore[reportUnknownVariableType] - likewise
)

from blixt.llm.errors import RecipeError

Checkpointing = Literal["none", "full", "selective"]

_EVERY = 2  # of the matrix products, so many-th is computed again by "selective"


def checkpoint_blocks(model: nn.Module, how: Checkpointing) -> None:
    """Let every block forget activations in forward and compute them again in backward.

    Args:
        model: Has `blocks`; call it before a strategy or the compiler wraps them.
        how: "full" keeps a block's input only: one more forward pass in time. "selective" keeps attention's
            output and every second matrix product, and computes the rest again: most of the memory for a
            small part of the time (the policy of torchtitan). "none" changes nothing.

    Raises:
        RecipeError: The model has no blocks.
    """
    if how == "none":
        return
    for block in blocks_of(model):
        contexts: dict[str, Any] = {"context_fn": _selective} if how == "selective" else {}
        block.forward = partial(_recompute, cast("Any", block.forward), contexts)


def compile_blocks(model: nn.Module, **options: Any) -> None:
    """Compile every block for itself, in place: one compilation serves all blocks of the same shape.

    Args:
        model: Has `blocks`.
        options: `torch.compile`'s, such as `mode` or `fullgraph`.
    """
    for block in blocks_of(model):
        cast("Any", block).compile(**options)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a decoder, or of a module that holds one as `model`.

    Raises:
        RecipeError: There are none.
    """
    for owner in (model, getattr(model, "model", None)):
        blocks = getattr(owner, "blocks", None)
        if isinstance(blocks, nn.ModuleList):
            return list(blocks)
    raise RecipeError(f"{type(model).__name__} has no `blocks` to checkpoint or compile one by one")


def _recompute(forward: Any, options: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return cast("Any", checkpoint)(forward, *args, use_reentrant=False, **options, **kwargs)


def _kept() -> set[Any]:
    """Operations whose results cost more to compute than to keep."""
    ops = torch.ops.aten
    names = (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
    )
    return {getattr(ops, name).default for name in names if hasattr(ops, name)}


def _selective() -> Any:
    """Fresh contexts for one block: the count of matrix products begins anew in each pass."""
    products = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
    kept = _kept()
    seen = {False: 0, True: 0}

    def policy(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if op in products:
            seen[ctx.is_recompute] += 1
            if seen[ctx.is_recompute] % _EVERY:
                return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.MUST_SAVE if op in kept else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)
