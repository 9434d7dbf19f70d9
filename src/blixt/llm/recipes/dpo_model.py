"""A policy with its reference, and the preference loss of packed pairs."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor

from blixt.llm.data import PackedBlock
from blixt.llm.lora import disable_adapters
from blixt.llm.losses import (
    IGNORE,
    PairLogprobs,
    dpo_loss,
    ipo_loss,
    kto_loss,
    orpo_loss,
    simpo_loss,
    summed_by_document,
)
from blixt.llm.model import GPT
from blixt.llm.parallel import ContextParallel
from blixt.llm.recipes.training import Trained, keep_buffers, packed_logprobs

Loss = Literal["dpo", "ipo", "simpo", "orpo", "kto"]
WITHOUT_REFERENCE = ("simpo", "orpo")
FACTS = 7
"""Numbers that `PreferenceModel` sums up, see `means`."""
OF_MEANS = ("ipo", "simpo", "orpo")
"""Losses that look at means over an answer's tokens, so that long answers do not count more."""

PairLoss = Callable[[PairLogprobs], Tensor]


class PreferenceModel(Trained):
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
        add_up: Sums a tensor over all ranks, for KTO's reference point; None when there is one.
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
        add_up: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.reference = model, reference
        self.loss, self.pair_loss, self.beta, self.weights = loss, pair_loss, beta, weights
        self.cp, self.add_up = cp, add_up
        self.slots = 3 if loss == "kto" else 2
        keep_buffers(self)

    def forward(self, block: PackedBlock, zero: Tensor | None = None) -> Tensor:
        """Sums over the block's pairs (or judged answers), (FACTS,); `means` says what they are.

        To train, divide the first by the pairs of the whole step.

        Args:
            block: (B, T), each row with units of `slots` documents.
            zero: KTO's reference point; None estimates it from this block on all ranks.
        """
        units = self.units(block)
        policy, reference = (found[units] for found in self._both(block))
        if self.loss == "kto":
            if zero is None:
                zero = self._zero((policy - reference)[:, 2])
            return self._kto(policy, reference, self.present(block)[units, 0], zero)
        pairs = PairLogprobs(policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1])
        with torch.no_grad():
            better = self.beta * (pairs.chosen - pairs.ref_chosen)
            worse = self.beta * (pairs.rejected - pairs.ref_rejected)
            right = (torch.sign(better - worse) + 1) / 2  # a tie is half right
            facts = [better.sum(), worse.sum(), right.sum(), *[units.sum()] * 3]
        return torch.stack([self.pair_loss(pairs).sum(), *(fact.float() for fact in facts)])

    @torch.no_grad()
    def reference_point(self, blocks: Sequence[PackedBlock]) -> Tensor | None:
        """KTO's z0 of a step whose micro-batches are not computed at once, from those of all ranks.

        It takes a forward pass of its own, because no loss is known before it. None for other losses, and
        for a single block, whose loss finds the same on its way.
        """
        if self.loss != "kto" or len(blocks) == 1:
            return None
        ratios: list[Tensor] = []
        for block in blocks:
            policy, reference = self._both(block)
            ratios.append((policy - reference)[self.units(block), 2])
        return self._zero(torch.cat(ratios))

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

    def _both(self, block: PackedBlock) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the documents under the policy and under its reference, (units, slots)."""
        policy = self.logprobs(self.model, block)
        if self.loss in WITHOUT_REFERENCE:
            return policy, torch.zeros_like(policy)
        with torch.no_grad(), nullcontext() if self.reference else disable_adapters(self.model):
            return policy, self.logprobs(self.reference or self.model, block)

    def _zero(self, ratios: Tensor) -> Tensor:
        """The mean of the mismatched documents' log ratios over all ranks, at least 0."""
        sums = torch.stack((ratios.detach().sum(), ratios.new_tensor(float(len(ratios)))))
        total, count = sums if self.add_up is None else self.add_up(sums)
        return (total / count.clamp(min=1)).clamp(min=0)

    def _kto(self, policy: Tensor, reference: Tensor, wanted: Tensor, zero: Tensor) -> Tensor:
        """Documents are (wanted, unwanted, mismatched); one of the first two is there."""
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
