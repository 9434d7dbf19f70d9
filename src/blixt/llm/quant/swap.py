"""`quantize`: the linear layers of a model, one by one, in fewer bits."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from inspect import signature
from typing import Any, TypeVar, cast

from torch import nn

from blixt.llm.errors import QuantError
from blixt.llm.moe import Experts
from blixt.llm.quant.base import QuantLinear
from blixt.llm.quant.experts import QuantExperts
from blixt.llm.quant.fp8 import FP8Linear
from blixt.llm.quant.int4 import Int4Linear
from blixt.llm.quant.int8 import Int8DynamicLinear, Int8Linear
from blixt.llm.quant.nf4 import NF4Linear

SCHEMES: dict[str, type[QuantLinear]] = {
    kind.scheme: kind for kind in (Int8Linear, Int8DynamicLinear, Int4Linear, NF4Linear, FP8Linear)
}
"""The number formats by the names that `quantize` takes."""

Model = TypeVar("Model", bound=nn.Module)

SKIP = ("head", "router", "shared_gate", "kv_b")
"""Layers that stay as they are: they decide too much, or (MLA) their matrix itself is wanted."""


def quantize(model: Model, scheme: str = "int8", *, skip: Sequence[str] = SKIP, **options: Any) -> Model:
    """Put a model's linear layers and experts into fewer bits, in place.

    One layer is converted after the other, so that besides the model no more than one layer is in memory
    twice; weights that are pages of a mapped file are read once and let go. Layers already converted stay.

    Args:
        model: A model or a part of one.
        scheme: "int8" (weights), "int8-dynamic" (weights and activations, fastest on a CPU), "int4" (groups),
            "nf4" (for QLoRA) or "fp8".
        skip: Names of layers that stay: their last part or the whole, `*` for any text.
        **options: The scheme's own: `group` for int4.

    Returns:
        The model.

    Raises:
        QuantError: There is no such scheme or option, or a layer's size does not fit it.
    """
    kind = SCHEMES.get(scheme)
    if kind is None:
        raise QuantError(f"there is no number format {scheme!r}: choose one of {', '.join(SCHEMES)}")
    if unknown := sorted(options.keys() - signature(kind).parameters.keys()):
        raise QuantError(f"{scheme} has no option {unknown[0]!r}")
    for name in [name for name, _ in _targets(model, skip)]:
        module = model.get_submodule(name)
        try:
            if isinstance(module, Experts):
                layer: nn.Module = QuantExperts.from_experts(module, kind, **options)
            else:
                layer = kind.from_linear(module, **options)
        except QuantError as error:
            raise QuantError(f"{name}: {error}") from None
        model.set_submodule(name, layer)
        del module  # before the next one is converted
    return model


def _targets(model: nn.Module, skip: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """What to convert, with its name: linear layers and the experts of mixtures."""
    modules = cast("Iterator[tuple[str, nn.Module]]", model.named_modules())
    for name, module in modules:
        plain = isinstance(module, nn.Linear | Experts) and not isinstance(module, QuantExperts)
        if plain and name and not _matches(name, skip):
            yield name, module


def _matches(name: str, patterns: Sequence[str]) -> bool:
    leaf = name.rpartition(".")[2]
    return any(fnmatchcase(name, pattern) or fnmatchcase(leaf, pattern) for pattern in patterns)
