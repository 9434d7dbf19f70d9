"""Writing adapters in PEFT's format."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - typed by half
from torch import Tensor, nn

from blixt.llm.config import ModelConfig
from blixt.llm.errors import AdapterError
from blixt.llm.lora.add import adapters
from blixt.llm.lora.embedding import LoRAEmbedding
from blixt.llm.lora.experts import LoRAExperts, LoRARouter, stack_shape
from blixt.llm.lora.layer import LoRALayer, LoRALinear, TrainedCopy, dense_weight
from blixt.llm.lora.names import WEIGHT, Names, join, names_of
from blixt.llm.lora.patterns import CONFIG_FILE, PREFIX, WEIGHTS_FILE, module_names
from blixt.llm.lora.product import Product, side_by_side
from blixt.llm.lora.stacks import WITHIN, ExpertStack, in_memory
from blixt.llm.weights.rules import EMBED


def save_peft(model: nn.Module, directory: str | Path, *, base: str | None = None) -> None:
    """Write a model's adapter as PEFT does; each file appears whole or not at all.

    Args:
        model: A `GPT` with adapters, merged or not.
        directory: Made when absent.
        base: Name or folder of the base model, for whoever reads the adapter.

    Raises:
        AdapterError: The model has no adapter, or one on a layer that has no name on disk.
    """
    found = dict(adapters(model))
    if not found:
        raise AdapterError("the model has no adapter to save: call add_lora first")
    config: ModelConfig = cast("Any", model).config
    names = names_of(config)
    layers = {name: layer for name, layer in found.items() if isinstance(layer, LoRALayer)}
    linears = {name: layer for name, layer in layers.items() if isinstance(layer, LoRALinear)}
    tensors, modules = _products_on_disk(model, linears, names)
    parameters = _parameters_on_disk(layers, names, tensors)
    _embedding_on_disk(layers, names, tensors, modules)
    whole, saved = _whole_on_disk(model, found, names)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    everything = {
        f"{PREFIX}{name}": t.detach().cpu().contiguous() for name, t in {**tensors, **whole}.items()
    }
    _write(folder / WEIGHTS_FILE, lambda path: save_file(everything, path, metadata={"format": "pt"}))
    content = _config_on_disk(modules, parameters, linears, saved, names, base)
    text = json.dumps(content, indent=2) + "\n"
    _write(folder / CONFIG_FILE, lambda path: path.write_text(text, "utf-8"))


def _products_on_disk(
    model: nn.Module, linears: Mapping[str, LoRALinear], names: Names
) -> tuple[dict[str, Tensor], dict[str, Product]]:
    """Tensors by PEFT's names, and the product of each module on disk."""
    tensors: dict[str, Tensor] = {}
    modules: dict[str, Product] = {}
    for name in linears:
        entry = names.entry_of(f"{name}{WEIGHT}")
        module = entry.theirs[0].removesuffix(WEIGHT)
        if module in modules:
            continue
        parts = [part.removesuffix(WEIGHT) for part in entry.ours]
        products = {
            part: Product(
                linears[part].lora_a, linears[part].lora_b, linears[part].scale, linears[part].magnitude
            )
            for part in parts
            if part in linears
        }
        product = join(
            entry, _detached(products), _row_lengths(model, [p for p in parts if p not in linears])
        )
        modules[module] = product
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = product.a, product.b
        if product.magnitude is not None:
            tensors[f"{module}.lora_magnitude_vector"] = product.magnitude
    return tensors, modules


def _parameters_on_disk(
    layers: Mapping[str, LoRALayer], names: Names, tensors: dict[str, Tensor]
) -> dict[str, Product]:
    """Add the tensors of experts and routers, and say what belongs to which parameter of theirs."""
    found: dict[str, Product] = {}
    for name, layer in layers.items():
        if isinstance(layer, LoRARouter):
            key = in_memory(names.entry_of(f"{name}{WEIGHT}").theirs[0])
            module = key.removesuffix(WEIGHT)
            tensors[f"{module}.lora_A.weight"] = layer.lora_a
            tensors[f"{module}.lora_B.weight"] = layer.lora_b
            found[key] = Product(layer.lora_a, layer.lora_b, layer.scale)
    for module, stacks in names.stacks.items():
        layer = layers.get(stacks[0].ours[0].rpartition(".")[0])
        if not isinstance(layer, LoRAExperts):
            continue
        chosen = [stack for stack in stacks if any(_part(name) in layer.scales for name in stack.ours)]
        for depth, stack in enumerate(reversed(chosen)):
            product = _stack_product(layer, stack)
            owner = module + WITHIN * depth
            tensors[f"{owner}.lora_A.weight"] = product.a
            tensors[f"{owner}.lora_B.weight"] = product.b
            rank = product.a.shape[0] // stack.experts
            found[stack.name] = replace(product, a=product.a[:rank])
    return found


def _stack_product(layer: LoRAExperts, stack: ExpertStack) -> Product:
    """PEFT's matrices for one of its parameters, from those of our stacks in it."""
    products: list[Product | None] = []
    for name in stack.ours:
        part = _part(name)
        pair = [t.detach().cpu() for t in layer.pair(part)] if part in layer.scales else None
        products.append(None if pair is None else Product(pair[0], pair[1], layer.scales[part]))
    rows = [stack_shape(layer.original, _part(name))[1] for name in stack.ours]
    a, parts, scale = side_by_side(products, rows)
    return Product(*stack.join(a, parts), scale)


def _part(name: str) -> str:
    return name.rpartition(".")[2]


def _embedding_on_disk(
    layers: Mapping[str, LoRALayer], names: Names, tensors: dict[str, Tensor], modules: dict[str, Product]
) -> None:
    """Add the tensors of an embedding with an adapter."""
    for name, layer in layers.items():
        if isinstance(layer, LoRAEmbedding):
            module = names.entry_of(f"{name}{WEIGHT}").theirs[0].removesuffix(WEIGHT)
            tensors[f"{module}.lora_embedding_A"] = layer.lora_a
            tensors[f"{module}.lora_embedding_B"] = layer.lora_b
            modules[module] = Product(layer.lora_a, layer.lora_b, layer.scale)


def _whole_on_disk(
    model: nn.Module, found: Mapping[str, LoRALayer | TrainedCopy], names: Names
) -> tuple[dict[str, Tensor], dict[str, bool]]:
    """Parameters trained whole by PEFT's names, and for each module on disk whether it is its bias alone."""
    trained: dict[str, Tensor] = {}
    for name, layer in found.items():
        if isinstance(layer, LoRALayer):
            if not isinstance(layer, LoRALinear):
                continue
            trained |= {} if layer.bias is None else {f"{name}.bias": layer.bias}
        else:
            trained |= {f"{name}.{key}": layer.copy.get_parameter(key) for key in layer.names}
    tensors: dict[str, Tensor] = {}
    saved: dict[str, bool] = {}
    for parameter in trained:
        entry = names.entry_of(parameter)
        key = entry.theirs[0]
        module, _, last = key.rpartition(".")
        values = [trained[name] if name in trained else _base_value(model, name) for name in entry.ours]
        on_lora = isinstance(found.get(parameter.rpartition(".")[0]), LoRALinear)
        tensors[f"{module}.base_layer.{last}" if on_lora else key] = entry.save(values)[0]
        if not on_lora:
            saved[module] = saved.get(module, True) and last == "bias"
    if (
        names.shared_head is not None and EMBED in trained
    ):  # PEFT trains the two apart, here from equal values
        tensors[names.shared_head] = trained[EMBED].clone()
        saved[names.shared_head.removesuffix(WEIGHT)] = False
    return tensors, saved


def _config_on_disk(
    modules: Mapping[str, Product],
    parameters: Mapping[str, Product],
    linears: Mapping[str, LoRALinear],
    saved: Mapping[str, bool],
    names: Names,
    base: str | None,
) -> dict[str, Any]:
    """What PEFT needs to put the same layers around its own model."""
    targets = {**modules, **parameters}
    ranks = {name: product.a.shape[0] for name, product in targets.items()}
    alphas = {name: product.scale * ranks[name] for name, product in targets.items()}
    rank, alpha = _usual(list(ranks.values()), 8), _usual(list(alphas.values()), 8.0)
    biased = any(layer.bias is not None for layer in linears.values())
    whole = sorted(module for module, bias_only in saved.items() if not bias_only)
    every = [module for module, _ in names.theirs()]
    stacks = [stack.name for stacks in names.stacks.values() for stack in stacks]
    dropout = max((layer.dropout for layer in linears.values()), default=0.0)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": _whole_number(alpha),
        "lora_dropout": 0.0 if parameters else dropout,  # PEFT knows none beside target_parameters
        "target_modules": module_names(sorted(modules), every),
        "target_parameters": module_names(sorted(parameters), [*stacks, *(f"{m}{WEIGHT}" for m in every)])
        or None,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {m: _whole_number(v) for m, v in alphas.items() if not math.isclose(v, alpha)},
        "use_dora": any(layer.magnitude is not None for layer in linears.values()),
        "use_rslora": False,  # alphas above are for alpha / r, whatever the root was in training
        "bias": "all" if any(saved.values()) else "lora_only" if biased else "none",
        "modules_to_save": whole or None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }


def _write(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _row_lengths(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    return {name: dense_weight(model.get_submodule(name)).float().square().sum(1).sqrt() for name in names}


def _base_value(model: nn.Module, parameter: str) -> Tensor:
    owner, _, key = parameter.rpartition(".")
    layer = model.get_submodule(owner)
    return cast("Tensor", getattr(layer.base if isinstance(layer, LoRALinear) else layer, key))


def _detached(products: dict[str, Product]) -> dict[str, Product]:
    def plain(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.detach().cpu()

    return {
        name: Product(plain(p.a), plain(p.b), p.scale, plain(p.magnitude)) for name, p in products.items()
    }


def _usual(values: list[Any], default: Any) -> Any:
    return max(values, key=values.count) if values else default


def _whole_number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value
