"""What training minimises: token losses without all logits, preference and policy terms, distillation.

`token_loss`, `token_logprobs` and `sequence_logprobs` go from hidden states to numbers; the other functions
are the formulas of their papers on those numbers, so a recipe reads like the paper.
"""

from blixt.llm.losses.distill import Distillation, distillation_loss, divergence
from blixt.llm.losses.policy import PolicyLoss, PolicyTerms, group_advantages, kl_estimate, policy_loss
from blixt.llm.losses.preference import (
    PairLogprobs,
    dpo_loss,
    ipo_loss,
    kto_loss,
    kto_reference_point,
    orpo_loss,
    simpo_loss,
)
from blixt.llm.losses.tokens import (
    IGNORE,
    sequence_logprobs,
    summed_by_document,
    token_logprobs,
    token_loss,
)

__all__ = [
    "IGNORE",
    "Distillation",
    "PairLogprobs",
    "PolicyLoss",
    "PolicyTerms",
    "distillation_loss",
    "divergence",
    "dpo_loss",
    "group_advantages",
    "ipo_loss",
    "kl_estimate",
    "kto_loss",
    "kto_reference_point",
    "orpo_loss",
    "policy_loss",
    "sequence_logprobs",
    "simpo_loss",
    "summed_by_document",
    "token_logprobs",
    "token_loss",
]
