"""What training minimises: token losses without all logits, preference and policy terms, distillation.

`token_loss`, `token_logprobs` and `sequence_logprobs` go from hidden states to numbers; the other functions
are the formulas of their papers on those numbers, so a recipe reads like the paper.
"""

from blixt.llm.losses.tokens import IGNORE, sequence_logprobs, token_logprobs, token_loss

__all__ = ["IGNORE", "sequence_logprobs", "token_logprobs", "token_loss"]
