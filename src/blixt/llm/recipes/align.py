"""What dpo, grpo and distill share: frozen models, shares of a batch, and an optimizer's step."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric import Fabric
from blixt.llm.errors import RecipeError
from blixt.llm.model import GPT
from blixt.llm.recipes.adapt import load_base


def load_frozen(path: str, precision: str) -> GPT:
    """A model that is only looked at: a reference or a teacher, on the file's own pages where it can be."""
    return load_base(path, "lora", precision).eval().requires_grad_(False)


def shares(batch_size: int, micro_batch_size: int, ranks: int) -> tuple[int, int]:
    """Rows a step that a rank has, and how many of them it computes at once.

    Args:
        batch_size: Rows a step over all ranks.
        micro_batch_size: Rows at once; 0 is a rank's whole share.
        ranks: That have different data.

    Raises:
        RecipeError: It does not divide evenly.
    """
    share = batch_size // ranks
    micro = micro_batch_size or share
    if batch_size < 1 or batch_size % ranks or not micro or share % micro:
        raise RecipeError(
            f"batch_size={batch_size} does not divide into micro-batches of {micro} on {ranks} ranks: change "
            "batch_size or micro_batch_size"
        )
    return share, micro


def divisible(length: int, cp: int) -> int:
    """Places in a row, rounded up to what `cp` ranks of context parallel can divide."""
    pieces = 2 * cp if cp > 1 else 1
    return -(-length // pieces) * pieces


def apply_gradients(fabric: Fabric, model: nn.Module, optimizers: Sequence[Optimizer], clip: float) -> None:
    """Clip, step and clear."""
    for optimizer in optimizers:
        if clip:
            nonfinite = fabric.precision.compute_dtype is not torch.float16  # there the scaler's business
            fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=nonfinite)
        optimizer.step()
        optimizer.zero_grad()
