"""Flash attention over sequences laid end to end, on CUDA (`torch.nn.attention.varlen`)."""

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_WIDTH = 256


def flash_takes(q: Tensor, v: Tensor, softcap: float, sinks: Tensor | None) -> bool:
    """Whether the kernel can compute this: half precision on CUDA, no softcap, no sinks to be trained."""
    return (
        q.is_cuda
        and q.dtype in (torch.float16, torch.bfloat16)
        and not softcap
        and max(q.shape[-1], v.shape[-1]) <= MAX_WIDTH
        and (sinks is None or not torch.is_grad_enabled())
    )


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: Tensor,
    longest: int,
    *,
    scale: float,
    window: int = 0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Causal attention within each of several sequences laid end to end.

    Args:
        q: (N, H, C), half precision on CUDA.
        k: (N, G, C).
        v: (N, G, V).
        bounds: Where sequences begin and the last one ends, (sequences + 1,) int32 on the same device.
        longest: At least the length of the longest one.
        scale: Multiplies the scores.
        window: A token sees itself and `window - 1` before; 0 means all before.
        sinks: A logit a head (H,), for inference only.

    Returns:
        (N, H, V).
    """
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    width, value_width = q.shape[-1], v.shape[-1]
    full = -(-max(width, value_width) // 8) * 8  # one width for all, a multiple of 8
    q, k, v = (F.pad(x, (0, full - x.shape[-1])) if x.shape[-1] < full else x for x in (q, k, v))
    y, lse = varlen_attn(
        q,
        k,
        v,
        bounds,
        bounds,
        longest,
        longest,
        return_aux=AuxRequest(lse=True),
        scale=scale,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    if sinks is not None:  # the sink's share of the softmax, taken off afterwards
        # torch 2.13 gives (H, N), its documentation says (N, H).
        rows = lse.mT if lse.shape[0] == q.shape[1] else lse
        y = y * torch.sigmoid(rows - sinks.float()).unsqueeze(-1).to(y.dtype)
    return y[..., :value_width]
