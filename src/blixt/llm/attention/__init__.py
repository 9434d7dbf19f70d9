"""How tokens attend: a context says where a batch stands, and finds each query its keys.

`Causal` is whole sequences, `Packed` documents laid end to end, `Cached` new tokens after a `KVCache`. They
answer to one protocol, `Context`; `attend_reference` is the slow truth for all.
"""

from blixt.llm.attention.base import Context, attend_reference, first_seen, reference_mask
from blixt.llm.attention.cached import Cached
from blixt.llm.attention.intervals import Intervals, interval_attention, intervals
from blixt.llm.attention.latent import absorb, expand, release
from blixt.llm.attention.packed import Causal, Packed
from blixt.llm.attention.pieces import fused, fused_one

__all__ = [
    "Cached",
    "Causal",
    "Context",
    "Intervals",
    "Packed",
    "absorb",
    "attend_reference",
    "expand",
    "first_seen",
    "fused",
    "fused_one",
    "interval_attention",
    "intervals",
    "reference_mask",
    "release",
]
