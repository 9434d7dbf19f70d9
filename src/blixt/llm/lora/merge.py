"""Adapters as part of the weights, beside them, and out of the way."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn

from blixt.llm.errors import AdapterError
from blixt.llm.lora.add import adapters, remove_lora
from blixt.llm.lora.layer import LoRALayer


def merge(model: nn.Module, *, unload: bool = False) -> nn.Module:
    """Fold adapters into the weights, in place: the same output without their cost.

    Sums are made in float32 and rounded once to the weight's own type. A quantised layer becomes a dense one.
    An embedding that was also the output layer comes apart from it when it had an adapter of its own.

    Args:
        model: With adapters.
        unload: Take the adapters off as well, so that the model can be saved; there is no way back. Without
            it the original weights stay in memory for `unmerge`.

    Returns:
        The model.

    Raises:
        AdapterError: The model has no adapter.
    """
    _refuse_none(model)
    for _, layer in adapters(model):
        if isinstance(layer, LoRALayer):
            layer.fold()
    return remove_lora(model) if unload else model


def unmerge(model: nn.Module) -> nn.Module:
    """Undo `merge`, to the bit, in place; adapters that are not merged stay as they are."""
    for _, layer in adapters(model):
        if isinstance(layer, LoRALayer):
            layer.unfold()
    return model


@contextmanager
def disable_adapters(model: nn.Module) -> Generator[nn.Module]:
    """While inside, the model is its base: a reference for preference training without a second copy.

    Raises:
        AdapterError: The model has no adapter, or one is merged.
    """
    _refuse_none(model)
    found = [layer for _, layer in adapters(model)]
    if any(isinstance(layer, LoRALayer) and layer.merged for layer in found):
        raise AdapterError("merged adapters cannot be disabled: call unmerge(model) first")
    before = [layer.enabled for layer in found]
    for layer in found:
        layer.enabled = False
    try:
        yield model
    finally:
        for layer, enabled in zip(found, before, strict=True):
            layer.enabled = enabled


def _refuse_none(model: nn.Module) -> None:
    if next(adapters(model), None) is None:
        raise AdapterError("the model has no adapter: call add_lora or load_peft first")
