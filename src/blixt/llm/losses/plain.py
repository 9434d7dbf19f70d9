"""torch's own chunked cross-entropy, for output layers that are one matrix and nothing else.

`F.linear_cross_entropy` (torch 2.13) adds a chunk's gradient to the weight's in the matrix product itself.
Measured on a CPU in float32 (1,024 rows, D 576, V 49,152): 1.3 to 1.65 s of processor time where
`chunked_sum` takes 2.0 and the plain formula 1.75, with 512 rows at once; with the number it chooses by
itself, 8.4 s. On other devices and in other types it was not measured, and `chunked_sum` stays.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.losses.head import Head, eager

ROWS = 512


def plain_weight(model: Head, hidden: Tensor) -> Tensor | None:
    """The output layer's weight (V, D) when logits are its product with hidden states, without more.

    None with a bias, softcap, multiplier, adapter, quantised or sharded weight, autocast, or wherever torch's
    function was not measured to be faster.
    """
    config = getattr(model, "config", None)
    if config is None or config.softcap_logits or config.logits_scale != 1:
        return None
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):  # torch before 2.13
        return None
    layer = cast("nn.Module | None", getattr(model, "head", None) if not config.tie else model_embed(model))
    if type(layer) not in (nn.Linear, nn.Embedding) or getattr(layer, "bias", None) is not None:
        return None
    weight = cast("nn.Linear", layer).weight
    fits = type(weight) is nn.Parameter and weight.dtype == hidden.dtype == torch.float32
    return weight if fits and weight.device.type == "cpu" and not torch.is_autocast_enabled("cpu") else None


def model_embed(model: Head) -> nn.Module | None:
    """The embedding that a tied output layer shares."""
    return cast("nn.Module | None", getattr(model, "embed", None))


@eager
def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """The sum of cross-entropies of rows (N, D) with targets (N,), some rows of logits at a time."""
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=min(len(hidden), chunk or ROWS))
    return F.linear_cross_entropy(hidden, weight, targets, reduction="sum", options=options)
