"""Rope factors that depend on how long a sequence is: when they change, its cache is worth nothing."""

from blixt.llm.config import ModelConfig


def regime(config: ModelConfig, length: int) -> int:
    """A number that changes whenever a sequence of `length` tokens is computed with other rope factors.

    "longrope" (arXiv:2402.13753) has two sets, for sequences up to the original context and longer ones;
    "dynamic" has another base for every length beyond it.
    """
    found = 0
    for spec in config.specs:
        if spec.rope is None or length <= spec.rope.original_context:
            continue
        if spec.rope.kind == "longrope":
            found = max(found, 1)
        elif spec.rope.kind == "dynamic":
            found = max(found, length)
    return found
