"""Learning from a teacher's probabilities, a chunk of logits of both at a time.

Softened targets are Hinton et al. 2015 (arXiv:1503.02531), the reverse divergence MiniLLM, Gu et al. 2023
(arXiv:2306.08543), the one in between GKD, Agarwal et al. 2023 (arXiv:2306.13649).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blixt.llm.losses.head import Head, chunked_sum, head_parameters, rows_per_chunk
from blixt.llm.losses.tokens import IGNORE, positions

Divergence = Literal["forward", "reverse", "jsd"]


@dataclass(frozen=True)
class Distillation:
    """What the student shall match.

    Attributes:
        divergence: "forward" KL(teacher | student) covers all the teacher does; "reverse" KL(student |
            teacher) keeps to what it does most; "jsd" is the generalised Jensen-Shannon divergence.
        temperature: Divides the logits of both; the loss is multiplied by its square, so that gradients keep
            their size.
        top_k: Look at the teacher's `top_k` likeliest tokens and at all others together as one; 0 looks at
            all of them.
        hard: Share of the loss that is the plain cross-entropy of the data, from 0 to 1.
        jsd_weight: The teacher's share in the mixture of "jsd".
    """

    divergence: Divergence = "forward"
    temperature: float = 1.0
    top_k: int = 0
    hard: float = 0.0
    jsd_weight: float = 0.5


def distillation_loss(
    model: Head,
    hidden: Tensor,
    teacher: Head,
    teacher_hidden: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    settings: Distillation | None = None,
    count: Tensor | float | None = None,
    chunk: int = 0,
) -> Tensor:
    """Mean divergence between teacher and student at the positions that count.

    Args:
        model: The student.
        hidden: Its hidden states after the final norm, (..., D).
        teacher: Reads the same vocabulary; it may have more rows of padding at its end.
        teacher_hidden: Its hidden states at the same tokens, (..., D of the teacher).
        targets: The data's next tokens, (...); -100 where there is none.
        mask: True where the loss counts; None means wherever there is a target.
        settings: Which divergence; None is the plain forward one.
        count: What to divide the sum by; None takes the number of positions here.
        chunk: Rows of logits held at once; 0 chooses.

    Returns:
        A scalar in float32.
    """
    chosen = settings or Distillation()
    where = positions(hidden, targets, mask, IGNORE)
    picked, taught = hidden.flatten(0, -2)[where], teacher_hidden.flatten(0, -2)[where].detach()
    wanted = targets.flatten()[where]

    def rows(h: Tensor, part: slice) -> Tensor:
        logits = model.logits(h).float()
        with torch.no_grad():
            reference = teacher.logits(taught[part]).float()
        losses = torch.zeros(len(h), device=h.device)
        if chosen.hard < 1:
            losses = losses + (1 - chosen.hard) * divergence(logits, reference, chosen)
        if chosen.hard > 0:
            losses = losses + chosen.hard * F.cross_entropy(logits, wanted[part], reduction="none")
        return losses

    total = chunked_sum(rows, picked, head_parameters(model), rows_per_chunk(model, hidden, chunk))
    return total / (max(1, len(where)) if count is None else count)


def divergence(logits: Tensor, teacher: Tensor, settings: Distillation) -> Tensor:
    """The divergence of each row, times the squared temperature.

    Args:
        logits: The student's, (n, V).
        teacher: The teacher's, (n, V or more).
        settings: Which divergence, at which temperature, over which tokens.

    Returns:
        (n,).
    """
    vocab = min(logits.shape[-1], teacher.shape[-1])
    student = (logits[..., :vocab] / settings.temperature).log_softmax(-1)
    target = (teacher[..., :vocab] / settings.temperature).log_softmax(-1)
    if 0 < settings.top_k < vocab:
        best, places = target.topk(settings.top_k, dim=-1)
        target, student = _with_rest(best), _with_rest(student.gather(-1, places))
    if settings.divergence == "forward":
        found = _kl(target, student)
    elif settings.divergence == "reverse":
        found = _kl(student, target)
    else:
        share = settings.jsd_weight
        mixed = torch.logaddexp(target + math.log(share), student + math.log1p(-share))
        found = share * _kl(target, mixed) + (1 - share) * _kl(student, mixed)
    return found * settings.temperature**2


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p | q) of rows of log-probabilities."""
    return (p.exp() * (p - q)).sum(-1)


def _with_rest(logprobs: Tensor) -> Tensor:
    """Log-probabilities of some tokens, and as a last column that of all others together."""
    held = logprobs.logsumexp(-1, keepdim=True).clamp(max=-1e-7)
    return torch.cat((logprobs, torch.log(-torch.expm1(held))), dim=-1)
