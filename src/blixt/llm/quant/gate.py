"""What fewer bits cost, measured: perplexity before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

from blixt.llm.errors import QuantError
from blixt.llm.evaluate.perplexity import perplexity
from blixt.llm.model import GPT


@dataclass(frozen=True)
class Gate:
    """The result of a comparison.

    Attributes:
        before: Perplexity of the model as it was.
        after: Perplexity in fewer bits.
    """

    before: float
    after: float

    @property
    def ratio(self) -> float:
        """How many times as large it became."""
        return self.after / self.before


def perplexity_gate(
    model: GPT,
    reference: GPT | float,
    documents: Sequence[Sequence[int]],
    *,
    limit: float = 1.05,
    window: int | None = None,
) -> Gate:
    """Refuse a model that became too much worse on a text.

    Args:
        model: In fewer bits.
        reference: The model as it was, or its perplexity on the same documents.
        documents: Token ids of a text like those it is meant for; some thousand tokens say more than some
            hundred.
        limit: The largest ratio of perplexities to accept.
        window: Most tokens to look back on; the model's context by default.

    Raises:
        QuantError: The ratio is above the limit.
    """
    before = (
        reference
        if isinstance(reference, int | float)
        else perplexity(reference, documents, window=window).perplexity
    )
    gate = Gate(before, perplexity(model, documents, window=window).perplexity)
    if not gate.ratio <= limit:
        raise QuantError(
            f"perplexity grew from {gate.before:.3f} to {gate.after:.3f}, {gate.ratio:.3f} times as much; "
            f"the limit is {limit:g}: take more bits, smaller groups, or skip some layers"
        )
    return gate
