"""Cross-entropy and log-probabilities of tokens, from hidden states and only where they count."""

import torch.nn.functional as F
from torch import Tensor

from blixt.llm.errors import LLMError
from blixt.llm.losses.head import Head, Rows, chunked_rows, chunked_sum, head_parameters, rows_per_chunk
from blixt.llm.losses.plain import cross_entropy_sum, plain_weight

IGNORE = -100
"""The target that means "no loss here", as torch and Hugging Face have it."""


def token_loss(
    model: Head,
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    count: Tensor | float | None = None,
    z_loss: float = 0.0,
    ignore_index: int = IGNORE,
    chunk: int = 0,
) -> Tensor:
    """Mean cross-entropy in nats of the targets that count, without ever holding all logits.

    Only loss positions pass the output layer, and a chunk of them at a time; gradients are exact. Call it
    where `hidden` was computed, inside the forward that DDP or FSDP wraps, so that they see the output layer.

    Args:
        model: Gives `logits(hidden)`, with its softcap and multipliers.
        hidden: After the final norm, (..., D); `hidden[i]` predicts `targets[i]`.
        targets: Token ids, (...); `ignore_index` where there is none.
        mask: True where the loss counts, (...); None means wherever there is a target.
        count: What to divide the sum by: the loss positions of all ranks and of all micro-batches of a step,
            when they differ; 1 gives the sum. None takes the number of positions here (at least 1).
        z_loss: Weight of the squared log-normaliser, which keeps logits from drifting (PaLM, Chowdhery et
            al. 2022, arXiv:2204.02311, section 5, uses 1e-4).
        ignore_index: The target that never counts.
        chunk: Rows of logits held at once; 0 chooses by vocabulary and device.

    Returns:
        A scalar in float32; 0 with zero gradients when no position counts.

    Raises:
        LLMError: Shapes do not agree.

    Example:
        ```python
        hidden = model.hidden(block.tokens)
        loss = token_loss(model, hidden, block.targets, block.mask)
        ```
    """
    where = positions(hidden, targets, mask, ignore_index)
    picked, wanted = hidden.flatten(0, -2)[where], targets.flatten()[where]

    def rows(h: Tensor, part: slice) -> Tensor:
        logits = model.logits(h).float()
        losses = F.cross_entropy(logits, wanted[part], reduction="none")
        return losses + z_loss * logits.logsumexp(-1).square() if z_loss else losses

    plain = None if z_loss or not len(where) else plain_weight(model, picked)
    if plain is not None:
        total = cross_entropy_sum(picked, plain, wanted, chunk)
    else:
        total = chunked_sum(rows, picked, head_parameters(model), rows_per_chunk(model, hidden, chunk))
    return total / (max(1, len(where)) if count is None else count)


def token_logprobs(
    model: Head,
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    ignore_index: int = IGNORE,
    chunk: int = 0,
) -> Tensor:
    """Log-probability of each target, 0 where none counts.

    Args:
        model: Gives `logits(hidden)`.
        hidden: After the final norm, (..., D); `hidden[i]` predicts `targets[i]`.
        targets: Token ids, (...).
        mask: True where a log-probability is wanted, (...); None means wherever there is a target.
        temperature: Divides the logits first: the temperature that sampled the targets.
        ignore_index: The target that never counts.
        chunk: Rows of logits held at once; 0 chooses.

    Returns:
        (...) in float32, differentiable element by element.

    Raises:
        LLMError: Shapes do not agree, or the temperature is not above 0.
    """
    if temperature <= 0:
        raise LLMError(f"temperature={temperature}: must be above 0; greedy answers are scored with 1")
    where = positions(hidden, targets, mask, ignore_index)
    picked, wanted = hidden.flatten(0, -2)[where], targets.flatten()[where]
    rows: Rows = _logprob_rows(model, wanted, temperature)
    found = chunked_rows(rows, picked, head_parameters(model), rows_per_chunk(model, hidden, chunk))
    return found.new_zeros(targets.numel()).index_put((where,), found).view(targets.shape)


def sequence_logprobs(
    model: Head,
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    documents: Tensor | None = None,
    count: int | None = None,
    mean: bool = False,
    temperature: float = 1.0,
    chunk: int = 0,
) -> Tensor:
    """Log-probability of whole answers: the sum (or mean) over their tokens.

    Args:
        model: Gives `logits(hidden)`.
        hidden: After the final norm, (B, T, D), or (..., D) with `documents`.
        targets: Token ids, (B, T), or (...) with `documents`.
        mask: True on the answers' tokens; None means wherever there is a target.
        documents: For packed blocks, the number of each token's sequence, (...); negative is padding.
        count: How many sequences `documents` numbers; None looks (and waits for the device).
        mean: Divide by the number of tokens, as SimPO and ORPO do.
        temperature: Divides the logits first.
        chunk: Rows of logits held at once; 0 chooses.

    Returns:
        (B,), or (count,) with `documents`, in float32. A sequence without a counted token has 0.
    """
    logprobs = token_logprobs(model, hidden, targets, mask, temperature=temperature, chunk=chunk)
    counted = targets != IGNORE if mask is None else mask & (targets != IGNORE)
    if documents is None:
        sums, lengths = logprobs.sum(-1), counted.sum(-1)
    else:
        sequences = int(documents.max()) + 1 if count is None else count
        return summed_by_document(logprobs, counted, documents, sequences, mean=mean)
    return sums / lengths.clamp(min=1) if mean else sums


def summed_by_document(
    logprobs: Tensor, counted: Tensor, documents: Tensor, count: int, *, mean: bool = False
) -> Tensor:
    """Sums (or means) of tokens' log-probabilities over the documents of packed blocks.

    Args:
        logprobs: Of each token, 0 where it does not count, (...).
        counted: Which tokens count, (...).
        documents: The number of each token's document, (...); negative is padding.
        count: How many documents there are.
        mean: Divide by the number of counted tokens.

    Returns:
        (count,); a document without a counted token has 0.
    """
    inside = documents.flatten() >= 0
    places = documents.flatten()[inside].long()
    sums = logprobs.new_zeros(count).index_add(0, places, logprobs.flatten()[inside])
    lengths = places.new_zeros(count).index_add(0, places, counted.flatten()[inside].long())
    return sums / lengths.clamp(min=1) if mean else sums


def positions(hidden: Tensor, targets: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:
    """Indices of the loss positions in the flattened targets."""
    if hidden.shape[:-1] != targets.shape or (mask is not None and mask.shape != targets.shape):
        seen = None if mask is None else tuple(mask.shape)
        raise LLMError(
            f"hidden {tuple(hidden.shape)}, targets {tuple(targets.shape)} and mask {seen} do not agree: "
            "hidden is (..., D) where the others are (...)"
        )
    counted = targets.flatten() != ignore_index
    if mask is not None:
        counted = counted & mask.flatten().bool()
    return counted.nonzero().squeeze(-1)


def _logprob_rows(model: Head, wanted: Tensor, temperature: float) -> Rows:
    def rows(h: Tensor, part: slice) -> Tensor:
        logits = model.logits(h).float()
        logits = logits / temperature if temperature != 1.0 else logits
        return -F.cross_entropy(logits, wanted[part], reduction="none")

    return rows
