"""Precision policies by name."""

from collections.abc import Callable, Sequence

import torch

from blixt.fabric.errors import ConfigError, WrongTypeError, nearest
from blixt.fabric.precision.base import Precision
from blixt.fabric.precision.bitsandbytes import BitsandbytesPrecision
from blixt.fabric.precision.composed import ComposedPrecision
from blixt.fabric.precision.float8 import Float8Precision
from blixt.fabric.precision.mixed import MixedPrecision
from blixt.fabric.precision.transformer_engine import TransformerEnginePrecision
from blixt.fabric.precision.true import DoublePrecision, HalfPrecision

PrecisionName = str | int
"""Such as "32-true", "bf16-mixed", 16, "bf16-true+float8"."""

_ALIASES = {
    "64": "64-true",
    "32": "32-true",
    "16": "16-mixed",
    "bf16": "bf16-mixed",
    "fp64": "64-true",
    "fp32": "32-true",
    "fp16": "16-mixed",
    "no": "32-true",
}
_MAKERS: dict[str, Callable[[], Precision]] = {
    "32-true": Precision,
    "64-true": DoublePrecision,
    "16-mixed": lambda: MixedPrecision("16-mixed"),
    "bf16-mixed": lambda: MixedPrecision("bf16-mixed"),
    "16-true": lambda: HalfPrecision("16-true"),
    "bf16-true": lambda: HalfPrecision("bf16-true"),
    "float8": Float8Precision,
    "nf4": lambda: BitsandbytesPrecision("nf4"),
    "nf4-dq": lambda: BitsandbytesPrecision("nf4-dq"),
    "fp4": lambda: BitsandbytesPrecision("fp4"),
    "fp4-dq": lambda: BitsandbytesPrecision("fp4-dq"),
    "int8": lambda: BitsandbytesPrecision("int8"),
    "int8-training": lambda: BitsandbytesPrecision("int8-training"),
    "transformer-engine": lambda: TransformerEnginePrecision(weights_dtype=torch.bfloat16),
    "transformer-engine-float16": lambda: TransformerEnginePrecision(weights_dtype=torch.float16),
}


def precision_names() -> list[str]:
    """Every canonical name; several joined by "+" are composed."""
    return list(_MAKERS)


def resolve_precision(wanted: PrecisionName | Precision | None) -> Precision:
    """The policy that is meant.

    Args:
        wanted: A canonical name or alias ("bf16-mixed", 32, "16"), several joined by "+", a policy, or None
            for "32-true".

    Raises:
        ConfigError: When there is no such policy, or parts contradict each other.
    """
    if wanted is None:
        return Precision()
    if isinstance(wanted, Precision):
        return wanted
    if isinstance(wanted, bool) or not isinstance(wanted, (str, int)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WrongTypeError("precision", wanted, "it is no precision", "Use a name, such as 'bf16-mixed'")
    if wanted == "float8":
        return compose([MixedPrecision("bf16-mixed"), Float8Precision()])
    return compose([_one(part.strip(), wanted) for part in str(wanted).split("+")])


def compose(policies: Sequence[Precision]) -> Precision:
    """One policy that is all of `policies`, the first outermost; full precision for none."""
    parts = [part for part in policies if type(part) is not Precision] or list(policies[:1]) or [Precision()]
    return parts[0] if len(parts) == 1 else ComposedPrecision(parts)


def _one(name: str, wanted: object) -> Precision:
    key = _ALIASES.get(name, name)
    maker = _MAKERS.get(key)
    if maker is None:
        hint = nearest(key, _MAKERS).rstrip("?")
        raise ConfigError("precision", wanted, "there is no such precision", hint)
    return maker()
