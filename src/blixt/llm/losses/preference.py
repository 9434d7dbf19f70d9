"""Learning from preferences: the formulas of their papers on log-probabilities of whole answers.

Every function takes (pairs,) or (answers,) float tensors as `sequence_logprobs` gives them, in nats, and
gives a loss for each; take the mean. `ref` is the reference model: the one training began with.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PairLogprobs(NamedTuple):
    """Log-probabilities of the better and the worse answer of each pair, (pairs,).

    Attributes:
        chosen: Of the better answer under the model.
        rejected: Of the worse answer under the model.
        ref_chosen: Of the better answer under the reference; zeros for losses without one.
        ref_rejected: Of the worse answer under the reference.
    """

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor

    @property
    def margin(self) -> Tensor:
        """How much more the model than the reference prefers the better answer, in nats."""
        return (self.chosen - self.ref_chosen) - (self.rejected - self.ref_rejected)


def dpo_loss(pairs: PairLogprobs, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimisation, Rafailov et al. 2023 (arXiv:2305.18290), equation 7.

    Args:
        pairs: Sums over tokens.
        beta: How strongly the reference holds.
        label_smoothing: Share of pairs that are labelled the wrong way round (conservative DPO, Mitchell
            2023); from 0 to below 0.5.
    """
    logits = beta * pairs.margin
    return -F.logsigmoid(logits) * (1 - label_smoothing) - F.logsigmoid(-logits) * label_smoothing


def ipo_loss(pairs: PairLogprobs, beta: float = 0.1) -> Tensor:
    """Identity preference optimisation, Azar et al. 2023 (arXiv:2310.12036), equation 17.

    The margin is drawn to 1 / (2 beta) and no further.

    Args:
        pairs: Sums over tokens, or means, which keep long answers from counting more.
        beta: Called tau in the paper.
    """
    return (pairs.margin - 1 / (2 * beta)).square()


def simpo_loss(pairs: PairLogprobs, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """SimPO, Meng et al. 2024 (arXiv:2405.14734), equation 6: no reference, means over tokens, a margin.

    Args:
        pairs: Means over tokens; the reference's are not looked at.
        beta: Scale of the means.
        gamma: Margin that the better answer shall have.
    """
    return -F.logsigmoid(beta * (pairs.chosen - pairs.rejected) - gamma)


def orpo_loss(pairs: PairLogprobs, beta: float = 0.1) -> Tensor:
    """ORPO, Hong et al. 2024 (arXiv:2403.07691), equation 6: cross-entropy and the ratio of odds.

    Args:
        pairs: Means over tokens; the reference's are not looked at.
        beta: Weight of the odds, lambda in the paper.
    """
    return -pairs.chosen - beta * F.logsigmoid(_log_odds(pairs.chosen) - _log_odds(pairs.rejected))


def kto_loss(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    wanted: Tensor,
    kl: Tensor,
    beta: float = 0.1,
    wanted_weight: float = 1.0,
    unwanted_weight: float = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimisation, Ethayarajh et al. 2024 (arXiv:2402.01306), equations 7 and 8.

    Learns from single answers that are only known to be wanted or not.

    Args:
        logprobs: Of each answer under the model, sums over tokens, (answers,).
        ref_logprobs: Likewise under the reference.
        wanted: True for wanted answers, (answers,).
        kl: The reference point z0, a scalar: see `kto_reference_point`. It is not differentiated.
        beta: How strongly the reference holds.
        wanted_weight: Weight of wanted answers; with the other one, balances unequal numbers.
        unwanted_weight: Weight of unwanted answers.
    """
    reward, zero = beta * (logprobs - ref_logprobs), beta * kl.detach()
    liked = wanted_weight * (1 - torch.sigmoid(reward - zero))
    disliked = unwanted_weight * (1 - torch.sigmoid(zero - reward))
    return torch.where(wanted, liked, disliked)


def kto_reference_point(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KTO's z0, from prompts with answers that belong to other prompts: their mean log ratio, at least 0.

    Args:
        logprobs: Of mismatched answers under the model, (answers,).
        ref_logprobs: Likewise under the reference.
    """
    return (logprobs - ref_logprobs).mean().clamp(min=0).detach()


def _log_odds(logprob: Tensor) -> Tensor:
    """log(p / (1 - p)); p stays below 1 so that it is finite."""
    logprob = logprob.clamp(max=-1e-6)
    return logprob - torch.log(-torch.expm1(logprob))
