"""Vectors of whole texts from the model's hidden states, many texts in one flat batch without a cache."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blixt.llm.attention import Packed
from blixt.llm.errors import PromptError
from blixt.llm.model import GPT

TOKENS_AT_ONCE = 2048


@torch.inference_mode()
def embed(
    model: GPT, prompts: Sequence[Sequence[int]], *, pooling: Literal["mean", "last"], normalize: bool
) -> Tensor:
    """Pool each sequence's hidden states, see `LLM.embed`; gives (sequences, D) on the CPU.

    Raises:
        PromptError: A sequence is empty or longer than the context, or the pooling is unknown.
    """
    if pooling not in ("mean", "last"):
        raise PromptError(f"pooling={pooling!r}: must be 'mean' or 'last'")
    for number, ids in enumerate(prompts):
        if not 0 < len(ids) <= model.config.context:
            raise PromptError(
                f"text {number} has {len(ids)} tokens: 1 to {model.config.context} can be embedded"
            )
    device = model.embed.weight.device
    vectors = torch.empty(len(prompts), model.config.d)
    for batch in _batches([len(ids) for ids in prompts]):
        tokens = torch.tensor([token for i in batch for token in prompts[i]], device=device)
        documents = torch.tensor([n for n, i in enumerate(batch) for _ in prompts[i]], device=device)
        hidden = model.hidden(tokens, Packed(documents)).float()
        end = 0
        for i in batch:
            part = hidden[end : end + len(prompts[i])]
            end += len(prompts[i])
            vectors[i] = part[-1] if pooling == "last" else part.mean(0)
    return F.normalize(vectors, dim=-1) if normalize else vectors


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of neighbours that together have few enough tokens; a longer one goes alone."""
    batch, total = list[int](), 0
    for index, length in enumerate(lengths):
        if batch and total + length > TOKENS_AT_ONCE:
            yield batch
            batch, total = [], 0
        batch.append(index)
        total += length
    if batch:
        yield batch
