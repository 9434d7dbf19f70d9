"""Weights in 8 and 4 bits: less memory, faster on a CPU, and a gate that says what it costs.

`quantize` converts a model's linear layers in place, `save_quantized` and `load_quantized` keep the result,
`perplexity_gate` refuses a conversion that loses too much.
"""

from blixt.llm.quant.base import QuantLinear
from blixt.llm.quant.files import load_quantized, save_quantized
from blixt.llm.quant.gate import Gate, perplexity_gate
from blixt.llm.quant.swap import SCHEMES, SKIP, quantize

__all__ = [
    "SCHEMES",
    "SKIP",
    "Gate",
    "QuantLinear",
    "load_quantized",
    "perplexity_gate",
    "quantize",
    "save_quantized",
]
