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
from blixt.llm.lora.add import adapters, untie
from blixt.llm.lora.embedding import LoRAEmbedding
from blixt.llm.lora.experts import LoRAExperts, LoRARouter
from blixt.llm.lora.layer import LoRALayer, LoRALinear, TrainedCopy
from blixt.llm.lora.names import WEIGHT, Names, cut, names_of
from blixt.llm.lora.patterns import CONFIG_FILE, PREFIX, WEIGHTS_FILE, PeftSettings, read_settings
from blixt.llm.lora.product import Product
from blixt.llm.lora.stacks import WITHIN, on_disk, stacked, wrapped
from blixt.llm.moe import Router
from blixt.llm.weights.rules import EMBED, Stack

_SUFFIXES = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
}


@dataclass
class PeftAdapter:
    """What is in an adapter's folder, in our names.

    Attributes:
        products: What is added to which layer: "blocks.0.attn.q"; to a stack "blocks.0.mlp.experts.up".
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
    weights: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    head: Tensor | None = None
    for key, tensor in _read_tensors(Path(directory) / WEIGHTS_FILE).items():
        name = key.removeprefix(PREFIX)
        for suffix, kind in _SUFFIXES.items():
            if name.endswith(suffix):
                parts.setdefault(name.removesuffix(suffix), {})[kind] = tensor
                break
        else:
            whole = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            if whole.endswith(WEIGHT) and ".base_layer." in name:
                continue  # PEFT keeps embeddings that an adapter sits on; they are the base model's
            if whole == names.shared_head:
                head = tensor
                continue
            entry = names.find(whole)
            _refuse_partial(entry.theirs, name)
            weights.update(zip(entry.ours, entry.load([tensor]), strict=True))
    names.check_shared(weights, head)
    for module, found in parts.items():
        if "a" not in found or "b" not in found:
            raise AdapterError(f"{directory} holds only one of the two matrices of {module}")
    return PeftAdapter(_products(parts, names, settings), weights, settings)


def _products(
    parts: Mapping[str, dict[str, Tensor]], names: Names, settings: PeftSettings
) -> dict[str, Product]:
    """The matrices of their modules as products for our layers."""
    products: dict[str, Product] = {}
    single: dict[str, dict[int, Product]] = {}  # of one expert each, by our stack
    for module, found in parts.items():
        a, b, magnitude = found["a"], found["b"], found.get("magnitude")
        bare = module
        while bare.endswith(WITHIN):
            bare = bare.removesuffix(WITHIN)
        if bare in names.stacks:
            depth = module.count(WITHIN)
            stack = wrapped(names.stacks[bare], settings.parameters, depth, bare)
            products |= stack.cut(a, b, settings.scale_of(stack.name, a.shape[0] // stack.experts))
            continue
        product = Product(a, b, settings.scale_of(bare, a.shape[0]), magnitude)
        if f"{bare}{WEIGHT}" == names.shared_head:
            products["head"] = product
            continue
        entry = names.find(f"{bare}{WEIGHT}")
        if isinstance(entry.op, Stack):
            at = next(
                at
                for at, name in enumerate(entry.theirs)
                if name in (f"{bare}{WEIGHT}", on_disk(f"{bare}{WEIGHT}"))
            )
            single.setdefault(entry.ours[0], {})[at] = product
        elif entry.ours == (EMBED,):
            products["embed"] = product
        else:
            products |= cut(entry, product)
    for name, experts in single.items():
        products[name] = stacked(experts, names.experts)
    return products


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
    if "head" in read.products:
        untie(model)
    stacks: dict[str, dict[str, Product]] = {}
    for name, product in read.products.items():
        owner, _, part = name.rpartition(".")
        if product.a.dim() == 3:
            stacks.setdefault(owner, {})[part] = product
            continue
        layer = _layer(_submodule(model, name), name, product, share, biased=f"{name}.bias" in read.weights)
        if f"{name}.bias" in read.weights:
            _fill(layer, "bias", read.weights.pop(f"{name}.bias"), name)
        model.set_submodule(name, layer.train(model.training))
    for owner, parts in stacks.items():
        model.set_submodule(
            owner, _experts(_submodule(model, owner), owner, parts, share).train(model.training)
        )
    _put_whole(model, read.weights)
    return model


def _layer(base: nn.Module, name: str, product: Product, dropout: float, *, biased: bool) -> LoRALayer:
    """A layer with the adapter's values."""
    rank, dora = product.a.shape[0], product.magnitude is not None
    if isinstance(base, (Router, nn.Embedding)):
        if dora or biased:
            raise AdapterError(
                f"the adapter has {'row lengths' if dora else 'a bias'} for {name}, which is not supported"
            )
        kind = LoRARouter if isinstance(base, Router) else LoRAEmbedding
        layer: LoRALayer = kind(base, rank, product.scale)
    else:
        layer = LoRALinear(base, rank, product.scale, dropout=dropout, dora=dora, train_bias=biased)
    _fill(layer, "lora_a", product.a, name)
    _fill(layer, "lora_b", product.b, name)
    if product.magnitude is not None:
        _fill(layer, "magnitude", product.magnitude, name)
    return layer


def _experts(base: nn.Module, name: str, parts: Mapping[str, Product], dropout: float) -> LoRAExperts:
    """A layer's experts with the adapter's values."""
    ranks = {part: (product.a.shape[1], product.scale) for part, product in parts.items()}
    layer = LoRAExperts(base, ranks, dropout)
    for part, product in parts.items():
        _fill(layer, f"{part}_lora_a", product.a, f"{name}.{part}")
        _fill(layer, f"{part}_lora_b", product.b, f"{name}.{part}")
    return layer


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
