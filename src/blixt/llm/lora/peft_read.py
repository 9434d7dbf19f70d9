"""Reading adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

LoRA, rsLoRA and DoRA, with ranks and alphas by layer, trained biases and modules trained whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from blixt.llm.config import ModelConfig
from blixt.llm.errors import AdapterError
from blixt.llm.lora.add import adapters
from blixt.llm.lora.layer import LoRALinear, TrainedCopy
from blixt.llm.lora.names import WEIGHT, Product, cut, names_of
from blixt.llm.lora.patterns import CONFIG_FILE, PREFIX, WEIGHTS_FILE, PeftSettings, read_settings


@dataclass
class PeftAdapter:
    """What is in an adapter's folder, in our names.

    Attributes:
        products: What is added to which linear layer: "blocks.0.attn.q".
        weights: Parameters trained whole: "norm.weight", "blocks.0.attn.q.bias".
        settings: What the configuration says.
    """

    products: dict[str, Product]
    weights: dict[str, Tensor]
    settings: PeftSettings


def read_peft(directory: str | Path, config: ModelConfig) -> PeftAdapter:
    """Read an adapter for a model of this configuration, on the CPU.

    Layers that are fused on disk (q, k, v in one) are cut into ours.

    Raises:
        AdapterError: A file is missing or damaged, the adapter is of another kind, or for another model.
    """
    settings = read_settings(Path(directory) / CONFIG_FILE)
    names = names_of(config)
    products: dict[str, Product] = {}
    weights: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    head: Tensor | None = None
    for key, tensor in _read_tensors(Path(directory) / WEIGHTS_FILE).items():
        name = key.removeprefix(PREFIX)
        for suffix in (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"):
            if name.endswith(suffix):
                parts.setdefault(name.removesuffix(suffix), {})[suffix] = tensor
                break
        else:
            whole = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            if whole == names.shared_head:
                head = tensor
                continue
            if whole.endswith(WEIGHT) and ".base_layer." in name:
                continue  # PEFT keeps embeddings that an adapter sits on; they are the base model's
            entry = names.find(whole)
            _refuse_partial(entry.theirs, name)
            weights.update(zip(entry.ours, entry.load([tensor]), strict=True))
    names.check_shared(weights, head)
    for module, found in parts.items():
        if ".lora_A.weight" not in found or ".lora_B.weight" not in found:
            raise AdapterError(f"{directory} holds only one of the two matrices of {module}")
        a, b = found[".lora_A.weight"], found[".lora_B.weight"]
        scale = settings.scale_of(module, a.shape[0])
        product = Product(a, b, scale, found.get(".lora_magnitude_vector"))
        products.update(cut(names.find(f"{module}{WEIGHT}"), product))
    return PeftAdapter(products, weights, settings)


def load_peft(model: nn.Module, directory: str | Path, *, dropout: float | None = None) -> nn.Module:
    """Put an adapter from disk on a model, in place, ready to run or to train on.

    Args:
        model: A `GPT`, quantised or not.
        directory: Holds `adapter_config.json` and `adapter_model.safetensors`.
        dropout: In training; None takes the file's.

    Returns:
        The model.

    Raises:
        AdapterError: The adapter is not for this model, or the model has one already.
    """
    if next(adapters(model), None) is not None:
        raise AdapterError("the model has adapters already: merge or remove them first")
    read = read_peft(directory, cast("Any", model).config)
    model.requires_grad_(False)
    share = read.settings.dropout if dropout is None else dropout
    for name, product in read.products.items():
        biased = f"{name}.bias" in read.weights
        layer = LoRALinear(
            _submodule(model, name),
            product.a.shape[0],
            product.scale,
            dropout=share,
            dora=product.magnitude is not None,
            train_bias=biased,
        )
        _fill(layer, "lora_a", product.a, name)
        _fill(layer, "lora_b", product.b, name)
        if product.magnitude is not None:
            _fill(layer, "magnitude", product.magnitude, name)
        if biased:
            _fill(layer, "bias", read.weights.pop(f"{name}.bias"), name)
        model.set_submodule(name, layer.train(model.training))
    _put_whole(model, read.weights)
    return model


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with cast("Any", safe_open(path, framework="pt")) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise AdapterError(f"{path} does not exist: is {path.parent} an adapter's folder?") from None
    except SafetensorError as error:
        raise AdapterError(f"{path} is damaged: {error}") from None


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise AdapterError(f"the adapter is for {name}, which this model does not have") from None


@torch.no_grad()
def _fill(layer: nn.Module, name: str, value: Tensor, owner: str) -> None:
    parameter = layer.get_parameter(name)
    if parameter.shape != value.shape:
        raise AdapterError(
            f"the adapter's {name} for {owner} has shape {tuple(value.shape)}, the layer needs "
            f"{tuple(parameter.shape)}: it is for a model of another size"
        )
    parameter.copy_(value)


def _put_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    owners: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        owner, _, key = name.rpartition(".")
        owners.setdefault(owner, {})[key] = value
    for owner, values in owners.items():
        layer = TrainedCopy(_submodule(model, owner), tuple(values))
        for key, value in values.items():
            _fill(layer.copy, key, value, owner)
        model.set_submodule(owner, layer.train(model.training))


def _refuse_partial(theirs: tuple[str, ...], name: str) -> None:
    if len(theirs) != 1:
        raise AdapterError(
            f"{name} is one of {len(theirs)} tensors that this model keeps as one; it cannot be read"
        )
