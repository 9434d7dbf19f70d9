"""In which number format parameters are kept and operations are computed: one file a kind of policy."""

from blixt.fabric.precision.base import Precision
from blixt.fabric.precision.bitsandbytes import BitsandbytesPrecision
from blixt.fabric.precision.composed import ComposedPrecision
from blixt.fabric.precision.float8 import Float8Precision
from blixt.fabric.precision.mixed import MixedPrecision
from blixt.fabric.precision.registry import PrecisionName, compose, precision_names, resolve_precision
from blixt.fabric.precision.transformer_engine import TransformerEnginePrecision
from blixt.fabric.precision.true import DoublePrecision, HalfPrecision, TruePrecision

__all__ = [
    "BitsandbytesPrecision",
    "ComposedPrecision",
    "DoublePrecision",
    "Float8Precision",
    "HalfPrecision",
    "MixedPrecision",
    "Precision",
    "PrecisionName",
    "TransformerEnginePrecision",
    "TruePrecision",
    "compose",
    "precision_names",
    "resolve_precision",
]
