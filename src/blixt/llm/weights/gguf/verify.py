"""What GGUF cannot say is refused: the configuration is read back from the metadata to be written."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError
from blixt.llm.weights.gguf.config import to_config
from blixt.llm.weights.gguf.write import Announced
from blixt.llm.weights.source import TensorInfo

_OTHERWISE_SAID = {"layer_specs", "rope", "rope_base", "mlp", "query_scale", "model_type", "eos", "bos"}


def check_describes(
    config: ModelConfig,
    metadata: Mapping[str, Any],
    tensors: Sequence[Announced],
    ropes: Mapping[str, Tensor],
) -> None:
    """Read the metadata back and compare.

    Args:
        config: The model's.
        metadata: What would be written.
        tensors: The tensors that would be.
        ropes: Those of them that the configuration needs.

    Raises:
        ConfigError: Names a field that a reader of the file would take for something else.
    """
    back = _effect(to_config(metadata, _Announced(tensors, ropes)))
    found = difference(_effect(config), back)
    if found is not None:
        raise ConfigError(
            f"the model's {found[0]} is {found[1]!r}: GGUF of {metadata['general.architecture']!r} "
            f"has no way to say so and would be read as {found[2]!r}"
        )


class _Announced:
    """The tensors of a file that is not written yet, as a source."""

    where = Path("the new file")

    def __init__(self, tensors: Sequence[Announced], ropes: Mapping[str, Tensor]) -> None:
        import torch

        self._ropes = ropes
        self.infos = {tensor.name: TensorInfo.plain(tensor.shape, torch.float32) for tensor in tensors}

    def get(self, name: str) -> Tensor:
        return self._ropes[name]

    def file_of(self, name: str) -> Path:
        return self.where

    def will_need(self) -> None:
        pass


def _effect(config: ModelConfig) -> dict[str, Any]:
    """What the configuration does, however it was written down."""
    plain = {name: value for name, value in asdict(config).items() if name not in _OTHERWISE_SAID}
    return {**plain, "specs": [asdict(spec) for spec in config.specs]}


def difference(ours: Any, theirs: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """Where two values of plain data first differ by more than the rounding of a float32; None where nowhere.

    Args:
        ours: Numbers, texts, lists and dicts of them.
        theirs: The same.
        where: What they are called.

    Returns:
        The place, such as "specs[3].window", and the two values.
    """
    if isinstance(ours, float) and isinstance(theirs, float | int):
        return None if math.isclose(ours, theirs, rel_tol=1e-6) else (where, ours, theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        first, second = cast("dict[str, Any]", ours), cast("dict[str, Any]", theirs)
        pairs = [(f"{where}.{key}".lstrip("."), first[key], second.get(key)) for key in first]
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        left, right = cast("list[Any]", ours), cast("list[Any]", theirs)
        if len(left) != len(right):
            return where, left, right
        pairs = [(f"{where}[{i}]", mine, right[i]) for i, mine in enumerate(left)]
    else:
        return None if ours == theirs else (where, cast("Any", ours), theirs)
    return next((found for place, a, b in pairs if (found := difference(a, b, place)) is not None), None)
