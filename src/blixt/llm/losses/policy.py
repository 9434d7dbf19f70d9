"""Learning from rewards: group-relative policy optimisation and its variants.

GRPO is Shao et al. 2024 (arXiv:2402.03300). The options are those of DAPO, Yu et al. 2025 (arXiv:2503.14476:
`clip_high`, `average="tokens"`), Dr. GRPO, Liu et al. 2025 (arXiv:2503.20783: `scale=False`,
`average="constant"`) and GSPO, Zheng et al. 2025 (arXiv:2507.18071: `level="sequence"`).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Average = Literal["tokens", "sequences", "constant"]
Level = Literal["token", "sequence"]


@dataclass(frozen=True)
class PolicyLoss:
    """How rewards become a loss.

    Attributes:
        clip_low: The ratio to the policy that wrote the answers counts down to 1 - clip_low.
        clip_high: And up to 1 + clip_high.
        beta: Weight of the KL divergence to the reference; 0 needs no reference.
        average: "tokens": the mean over all tokens (DAPO); "sequences": the mean over answers of the mean
            over their tokens (GRPO as published); "constant": the sum over tokens divided by the answers'
            number times `length` (Dr. GRPO: no answer counts more for being short).
        length: For "constant": the longest answer possible.
        level: Ratios of tokens, or of whole answers (GSPO).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.0
    average: Average = "tokens"
    length: int = 0
    level: Level = "token"


class PolicyTerms(NamedTuple):
    """A policy loss and what tells how it goes.

    Attributes:
        loss: To minimise.
        kl: Mean of the KL estimate over tokens; 0 without reference.
        clipped: Share of tokens whose ratio was cut.
        ratio: Mean ratio to the policy that wrote the answers.
    """

    loss: Tensor
    kl: Tensor
    clipped: Tensor
    ratio: Tensor


def group_advantages(rewards: Tensor, group: int, *, scale: bool = True, eps: float = 1e-4) -> Tensor:
    """How much better each answer is than the others to the same prompt.

    Args:
        rewards: (prompts * group,), the answers to a prompt side by side.
        group: Answers to a prompt.
        scale: Divide by the group's standard deviation; False is Dr. GRPO's, which does not favour prompts
            whose answers are nearly equal.
        eps: Added to the standard deviation.

    Returns:
        (prompts * group,); 0 throughout a group whose rewards are equal.
    """
    grouped = rewards.float().view(-1, group)
    found = grouped - grouped.mean(-1, keepdim=True)
    if scale and group > 1:
        found = found / (grouped.std(-1, keepdim=True) + eps)
    return found.flatten()


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KL divergence from the reference at each token, estimated without bias and never below 0.

    Schulman's k3 (joschu.net/blog/kl-approx.html, 2020), as GRPO's equation 4 has it.
    """
    difference = ref_logprobs - logprobs
    return difference.exp() - difference - 1


def policy_loss(
    logprobs: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    sequences: Tensor,
    settings: PolicyLoss,
    *,
    ref: Tensor | None = None,
    count: float | Tensor | None = None,
) -> PolicyTerms:
    """The clipped loss of answers, packed or not.

    Args:
        logprobs: Of each token under the model, (...).
        old: Under the policy that wrote the answers, (...).
        advantages: Of each answer, (answers,).
        mask: True on the answers' tokens, (...).
        sequences: Number of each token's answer in `advantages`, (...); negative in padding.
        settings: Clipping, averaging and so on.
        ref: Under the reference, (...); only for `settings.beta` above 0.
        count: What to divide by: tokens or answers of the whole step, over its micro-batches and ranks. None
            counts here.
    """
    counted = mask & (sequences >= 0)
    number = sequences[counted].long()
    new, before = logprobs[counted], old[counted].detach()
    answers = len(advantages)
    lengths = torch.bincount(number, minlength=answers)
    log_ratio = new - before
    if settings.level == "sequence":
        means = _sums(log_ratio, number, answers) / lengths.clamp(min=1)
        log_ratio = means[number]
    ratio = log_ratio.exp()
    cut = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    gain = advantages[number]
    losses = -torch.minimum(ratio * gain, cut * gain)
    kl = torch.zeros_like(losses)
    if settings.beta and ref is not None:
        kl = kl_estimate(new, ref[counted].detach())
        losses = losses + settings.beta * kl
    divisor = count if count is not None else _count(settings, lengths)
    if settings.average == "sequences":
        losses = losses / lengths[number]
    elif settings.average == "constant":
        losses = losses / settings.length
    tokens = max(1, len(number))
    beyond = ((ratio < 1 - settings.clip_low) & (gain < 0)) | ((ratio > 1 + settings.clip_high) & (gain > 0))
    return PolicyTerms(
        losses.sum() / divisor,
        kl.detach().sum() / tokens,
        beyond.float().sum() / tokens,
        ratio.detach().sum() / tokens,
    )


def _count(settings: PolicyLoss, lengths: Tensor) -> Tensor:
    counted = lengths.sum() if settings.average == "tokens" else (lengths > 0).sum()
    return counted.clamp(min=1)


def _sums(values: Tensor, number: Tensor, answers: int) -> Tensor:
    return values.new_zeros(answers).index_add(0, number, values)
