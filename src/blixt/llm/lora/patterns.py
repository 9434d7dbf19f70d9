"""What an `adapter_config.json` says, and how PEFT names the modules that it is about."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from blixt.llm.errors import AdapterError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."

_UNSUPPORTED = (
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "layer_replication",
    "lora_bias",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
)


@dataclass(frozen=True)
class PeftSettings:
    """What reading an adapter's tensors needs of its configuration.

    Attributes:
        alpha: Weight of the products.
        rslora: Divide it by the rank's root, not by the rank.
        alphas: Other alphas, by regular expression for the end of a module's name.
        dropout: In training.
        base: Name of the base model, or None.
        parameters: The ends of the names of parameters that are no layer and have an adapter.
    """

    alpha: float
    rslora: bool
    alphas: Mapping[str, float]
    dropout: float
    base: str | None
    parameters: tuple[str, ...] = ()

    def scale_of(self, module: str, rank: int) -> float:
        """The scale of the product for a module of theirs."""
        fitting = (value for key, value in self.alphas.items() if re.fullmatch(rf"(.*\.)?({key})", module))
        alpha = next(fitting, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_settings(path: Path) -> PeftSettings:
    """Read `adapter_config.json`.

    Raises:
        AdapterError: It is missing, not JSON, not of LoRA, or asks for something that is not supported.
    """
    try:
        content: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise AdapterError(f"{path} does not exist: is {path.parent} an adapter's folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise AdapterError(f"{path} is not a JSON object")
    data = cast("dict[str, Any]", content)
    if data.get("peft_type") != "LORA":
        raise AdapterError(f"{path} says peft_type={data.get('peft_type')!r}: only LORA is read")
    for name in _UNSUPPORTED:
        if data.get(name):
            raise AdapterError(f"{path} asks for {name}={data[name]!r}, which is not supported")
    patterns = cast("dict[str, Any]", data.get("alpha_pattern") or {})
    try:
        return PeftSettings(
            alpha=float(data.get("lora_alpha", 8)),
            rslora=bool(data.get("use_rslora", False)),
            alphas={str(key): float(value) for key, value in patterns.items()},
            dropout=float(data.get("lora_dropout", 0.0)),
            base=data.get("base_model_name_or_path"),
            parameters=tuple(str(name) for name in data.get("target_parameters") or ()),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise AdapterError(f"{path} has a value of the wrong kind: {error}") from None


def module_names(chosen: Sequence[str], every: Sequence[str]) -> list[str]:
    """How to say `chosen` of `every` module to PEFT, which matches ends of names after a dot.

    A last name is enough where all modules of that last name are chosen; others are named in full.

    Example:
        >>> module_names(["a.0.q", "a.1.q", "a.0.k"], ["a.0.q", "a.1.q", "a.0.k", "a.1.k"])
        ['a.0.k', 'q']
    """
    wanted = set(chosen)
    found: set[str] = set()
    for name in chosen:
        last = name.rpartition(".")[2]
        alike = {other for other in every if other.rpartition(".")[2] == last}
        found.add(last if alike <= wanted else name)
    return sorted(found)
