"""A policy with its reference, and the preference loss of packed pairs."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from blixt.llm.data import PackedBlock
from blixt.llm.lora import disable_adapters
from blixt.llm.losses import (
    IGNORE,
    PairLogprobs,
    dpo_loss,
    ipo_loss,
    kto_loss,
    kto_reference_point,
    orpo_loss,
    simpo_loss,
    summed_by_document,
)
from blixt.llm.model import GPT
from blixt.llm.parallel import ContextParallel
from blixt.llm.recipes.training import keep_buffers, packed_logprobs

Loss = Literal["dpo", "ipo", "simpo", "orpo", "kto"]
WITHOUT_REFERENCE = ("simpo", "orpo")
FACTS = 7
"""Numbers that `PreferenceModel` sums up, see `means`."""
OF_MEANS = ("ipo", "simpo", "orpo")
"""Losses that look at means over an answer's tokens, so that long answers do not count more."""

PairLoss = Callable[[PairLogprobs], Tensor]


class PreferenceModel(nn.Module):
    """The policy and the loss as one module, because sharded strategies see only what happens in `forward`.

    Args:
        model: The policy, with adapters, which are switched off for the reference, or with all weights
            trained.
        reference: A frozen copy; None for a policy with adapters, and for losses without reference.
        loss: Which.
        pair_loss: The loss of pairs; for "kto" see `weights`.
        beta: How strongly the reference holds, for reported rewards and KTO.
        weights: KTO's weights of wanted and unwanted answers.
        cp: Divides sequences among ranks; None keeps them whole.
    """

    def __init__(
        self,
        model: GPT,
        reference: GPT | None,
        loss: Loss,
        pair_loss: PairLoss,
        beta: float,
        weights: tuple[float, float] = (1.0, 1.0),
        cp: ContextParallel | None = None,
    ) -> None:
        super().__init__()
        self.model, self.reference = model, reference
        self.loss, self.pair_loss, self.beta, self.weights = loss, pair_loss, beta, weights
        self.cp = cp
        self.slots = 3 if loss == "kto" else 2
        keep_buffers(self)

    def forward(self, block: PackedBlock) -> Tensor:
        """Sums over the block's pairs (or judged answers), (FACTS,); `means` says what they are.

        To train, divide the first by the pairs of the whole step.

        Args:
            block: (B, T), each row with units of `slots` documents.
        """
        policy = self.logprobs(self.model, block)
        if self.loss in WITHOUT_REFERENCE:
            reference = torch.zeros_like(policy)
        else:
            other = self.reference or self.model
            with torch.no_grad(), nullcontext() if self.reference else disable_adapters(self.model):
                reference = self.logprobs(other, block)
        units = self.units(block)
        policy, reference = policy[units], reference[units]
        if self.loss == "kto":
            return self._kto(policy, reference, self.present(block)[units, 0])
        pairs = PairLogprobs(policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1])
        with torch.no_grad():
            better = self.beta * (pairs.chosen - pairs.ref_chosen)
            worse = self.beta * (pairs.rejected - pairs.ref_rejected)
            right = (torch.sign(better - worse) + 1) / 2  # a tie is half right
            facts = [better.sum(), worse.sum(), right.sum(), *[units.sum()] * 3]
        return torch.stack([self.pair_loss(pairs).sum(), *(fact.float() for fact in facts)])

    def logprobs(self, model: GPT, block: PackedBlock) -> Tensor:
        """Of every document, (units, slots); 0 for those that are not there."""
        rows, numbers = self._numbers(block)
        found = summed_by_document(
            packed_logprobs(model, block, cp=self.cp),
            block.mask & (block.targets != IGNORE),
            numbers,
            rows * len(block.tokens),
            mean=self.loss in OF_MEANS,
        )
        return found.view(-1, self.slots)

    def present(self, block: PackedBlock) -> Tensor:
        """Which documents are there, (units, slots)."""
        rows, numbers = self._numbers(block)
        inside = numbers[numbers >= 0]
        return torch.bincount(inside, minlength=rows * len(block.tokens)).view(-1, self.slots) > 0

    def units(self, block: PackedBlock) -> Tensor:
        """Which pairs (or judged answers) are there, (units,)."""
        return self.present(block)[:, -1]

    def _numbers(self, block: PackedBlock) -> tuple[int, Tensor]:
        """Places for documents in a row, and each token's document in the batch."""
        most = int(block.documents.max()) // self.slots + 1
        rows = max(1, most) * self.slots
        return rows, block.sequences(rows)

    def _kto(self, policy: Tensor, reference: Tensor, wanted: Tensor) -> Tensor:
        """Documents are (wanted, unwanted, mismatched); one of the first two is there."""
        zero = policy.new_zeros(())
        if len(policy):
            zero = kto_reference_point(policy[:, 2], reference[:, 2])
        answer = torch.where(wanted, policy[:, 0], policy[:, 1])
        before = torch.where(wanted, reference[:, 0], reference[:, 1])
        losses = kto_loss(answer, before, wanted, zero, self.beta, *self.weights)
        with torch.no_grad():
            reward = self.beta * (answer - before)
            right = (reward > self.beta * zero) == wanted
            sums = [reward[wanted].sum(), reward[~wanted].sum(), right.sum()]
            counts = [wanted.sum(), (~wanted).sum(), torch.ones_like(wanted).sum()]
        return torch.stack([losses.sum(), *(fact.float() for fact in (*sums, *counts))])


def make_pair_loss(loss: Loss, beta: float, gamma: float, label_smoothing: float) -> PairLoss:
    """The loss of pairs that settings name."""
    makers: dict[Loss, PairLoss] = {
        "dpo": lambda pairs: dpo_loss(pairs, beta, label_smoothing),
        "ipo": lambda pairs: ipo_loss(pairs, beta),
        "simpo": lambda pairs: simpo_loss(pairs, beta, gamma),
        "orpo": lambda pairs: orpo_loss(pairs, beta),
        "kto": lambda pairs: dpo_loss(pairs, beta),
    }
    return makers[loss]


def means(sums: Tensor) -> dict[str, float]:
    """What `PreferenceModel` sums up, as means.

    Returns:
        `loss`; `chosen`, the reward of better answers; `margin`, how far it is above that of worse ones;
        `accuracy`, the share of pairs in the right order; `pairs`, how many there were.
    """
    loss, better, worse, right, wanted, unwanted, pairs = (float(number) for number in sums)
    chosen, rejected = better / max(1.0, wanted), worse / max(1.0, unwanted)
    return {
        "loss": loss / max(1.0, pairs),
        "chosen": chosen,
        "margin": chosen - rejected,
        "accuracy": right / max(1.0, pairs),
        "pairs": pairs,
    }
