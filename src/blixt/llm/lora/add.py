"""Which layers get an adapter."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from blixt.llm.errors import AdapterError
from blixt.llm.lora.embedding import LoRAEmbedding
from blixt.llm.lora.experts import PARTS, LoRAExperts, LoRARouter
from blixt.llm.lora.layer import LoRALayer, LoRALinear, TrainedCopy
from blixt.llm.moe import Experts, Router

ALL = "all"


@dataclass(frozen=True)
class LoRAConfig:
    """What is trained beside the frozen weights.

    Attributes:
        r: Rank of the products.
        alpha: Their weight: the scale is alpha / r, or with `rslora` alpha / sqrt(r).
        dropout: Share of a product's inputs that is left out in training; embeddings and routers have none.
        targets: all, for every linear layer but the output layer and routers; or names and patterns such as
            q, attn.*, blocks.3.mlp.down; and, by their own names only, experts, experts.down, router, embed,
            head.
        dora: Train row lengths of linear layers as well (DoRA).
        rslora: Scale by the root of the rank, which keeps large ranks stable (arXiv:2312.03732).
        bias: Which biases are trained: none, lora_only (of layers with an adapter) or all.
        save: Modules trained whole and kept with the adapter, such as embed, head, norm.
        ranks: Other ranks, by pattern.
        alphas: Other alphas, by pattern.
    """

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = ALL
    dora: bool = False
    rslora: bool = False
    bias: Literal["none", "lora_only", "all"] = "none"
    save: tuple[str, ...] = ()
    ranks: dict[str, int] = field(default_factory=dict[str, int])
    alphas: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        if self.r < 1 or any(r < 1 for r in self.ranks.values()):
            raise AdapterError(f"LoRAConfig(r={self.r}, ranks={self.ranks}): a rank is at least 1")
        if not 0 <= self.dropout < 1:
            raise AdapterError(f"LoRAConfig(dropout={self.dropout}): must be from 0 to below 1")

    def rank_of(self, name: str) -> int:
        """The rank for the layer of this name."""
        return next((rank for pattern, rank in self.ranks.items() if matches(name, pattern)), self.r)

    def scale_of(self, name: str) -> float:
        """The scale for the layer of this name."""
        alpha = next((alpha for pattern, alpha in self.alphas.items() if matches(name, pattern)), self.alpha)
        rank = self.rank_of(name)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def add_lora(model: nn.Module, config: LoRAConfig) -> nn.Module:
    """Freeze a model and put adapters on it, in place.

    Args:
        model: Its linear layers are modules with `in_features` and `out_features`.
        config: Where and how large.

    Returns:
        The model.

    Raises:
        AdapterError: A pattern fits no layer, DoRA is wanted for what is no linear layer, or the model has
            adapters already.
    """
    if next(adapters(model), None) is not None:
        raise AdapterError("the model has adapters already: merge or remove them first")
    targets = target_names(model, config.targets)
    saved = _named_modules(model, config.save)
    if "head" in targets:
        untie(model)
    model.requires_grad_(False)
    stacks: dict[str, list[str]] = {}
    for name in targets:
        owner, _, part = name.rpartition(".")
        if part in PARTS and owner.endswith("experts"):
            stacks.setdefault(owner, []).append(part)
        else:
            model.set_submodule(name, _layer(model.get_submodule(name), name, config).train(model.training))
    for owner, parts in stacks.items():
        _refuse_dora(owner, config)
        ranks = {
            part: (config.rank_of(f"{owner}.{part}"), config.scale_of(f"{owner}.{part}")) for part in parts
        }
        experts = LoRAExperts(model.get_submodule(owner), ranks, config.dropout)
        model.set_submodule(owner, experts.train(model.training))
    for name in saved:
        model.set_submodule(name, TrainedCopy(model.get_submodule(name)).train(model.training))
    if config.bias == "all":
        _train_other_biases(model)
    return model


def remove_lora(model: nn.Module) -> nn.Module:
    """Take all adapters off, in place; merged ones leave what they learned behind."""
    for name, layer in list(adapters(model)):
        if isinstance(layer, LoRAEmbedding) and layer.merged:
            untie(model)
        left = layer.base if isinstance(layer, LoRALayer) or not layer.enabled else layer.copy
        model.set_submodule(name, left)
    return model


def untie(model: nn.Module) -> None:
    """Give a model whose output layer is its embedding one of its own, in place; both keep one memory."""
    config = getattr(model, "config", None)
    if config is None or not config.tie:
        return
    weight = cast("nn.Parameter", cast("Any", model).embed.weight)
    with torch.device("meta"):
        head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    head.weight = weight
    model.add_module("head", head.train(model.training))
    cast("Any", model).config = replace(config, tie=False, head_bias=False)


def adapters(model: nn.Module) -> Iterator[tuple[str, LoRALayer | TrainedCopy]]:
    """Every layer with an adapter, by name."""
    for name, part in cast("Any", model).named_modules():
        if isinstance(part, (LoRALayer, TrainedCopy)):
            yield name, part


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' trained tensors, by their names in the model."""
    found: dict[str, Tensor] = {}
    for name, layer in adapters(model):
        if isinstance(layer, LoRALayer):
            own = layer.named_parameters(recurse=False)
            found.update({f"{name}.{key}": parameter for key, parameter in own})
        else:
            found.update({f"{name}.copy.{key}": layer.copy.get_parameter(key) for key in layer.names})
    return found


def target_names(model: nn.Module, targets: str | tuple[str, ...]) -> list[str]:
    """The layers that patterns choose, in the model's order.

    A stack of experts' matrices counts as a layer ("blocks.0.mlp.experts.up"), and so do a router and the
    embedding.

    Raises:
        AdapterError: A pattern fits none, with the nearest that is there.
    """
    layers = _layers(model)
    if targets in (ALL, (ALL,)):
        linears = [name for name, special in layers.items() if not special]
        return [name for name in linears if name.split(".")[-1] not in ("head", "router", "shared_gate")]
    patterns = (targets,) if isinstance(targets, str) else targets
    return _chosen(list(layers), patterns, "layer", lambda name, pattern: _fits(name, pattern, layers[name]))


def _layers(model: nn.Module) -> dict[str, str]:
    """What an adapter can sit on, and for what is no linear layer the word that a pattern has to say."""
    found: dict[str, str] = {}
    for name, part in cast("Any", model).named_modules():
        if isinstance(part, Experts):
            found |= {f"{name}.{matrix}": "experts" for matrix in PARTS}
        elif isinstance(part, Router):
            found[name] = "router"
        elif name == "embed":
            found[name] = "embed"
        elif is_linear(part) and ".experts." not in name:
            found[name] = ""
    config = getattr(model, "config", None)
    if config is not None and config.tie:
        found["head"] = "head"
    return found


def _fits(name: str, pattern: str, word: str) -> bool:
    if not word:
        return matches(name, pattern)
    owner = name.rpartition(".")[0]
    return word in pattern and (matches(name, pattern) or (word == "experts" and matches(owner, pattern)))


def _layer(base: nn.Module, name: str, config: LoRAConfig) -> LoRALayer:
    rank, scale = config.rank_of(name), config.scale_of(name)
    if is_linear(base):
        return LoRALinear(
            base,
            rank,
            scale,
            dropout=config.dropout,
            dora=config.dora,
            train_bias=config.bias != "none",
        )
    _refuse_dora(name, config)
    return LoRARouter(base, rank, scale) if isinstance(base, Router) else LoRAEmbedding(base, rank, scale)


def _refuse_dora(name: str, config: LoRAConfig) -> None:
    if config.dora:
        raise AdapterError(f"DoRA is for linear layers, which {name} is not: leave it out of targets")


def is_linear(part: nn.Module) -> bool:
    """Whether an adapter can wrap a module: a linear layer of any kind."""
    sizes = (getattr(part, "in_features", None), getattr(part, "out_features", None))
    return all(isinstance(size, int) for size in sizes) and not isinstance(part, LoRALinear)


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern fits a name or the end of it that begins after a dot."""
    return fnmatchcase(name, pattern) or fnmatchcase(f".{name}", f"*.{pattern}")


def _named_modules(model: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    owners = [
        name
        for name, part in cast("Any", model).named_modules()
        if name and next(part.parameters(recurse=False), None) is not None
    ]
    return _chosen(owners, patterns, "module with parameters")


def _chosen(
    names: list[str],
    patterns: tuple[str, ...],
    kind: str,
    fits: Callable[[str, str], bool] = matches,
) -> list[str]:
    for pattern in patterns:
        if not any(fits(name, pattern) for name in names):
            ends = sorted({name.split(".")[-1] for name in names})
            close = get_close_matches(pattern, [*names, *ends], n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(ends)}"
            raise AdapterError(f"no {kind} of the model is called {pattern!r}; {hint}")
    return [name for name in names if any(fits(name, pattern) for pattern in patterns)]


def _train_other_biases(model: nn.Module) -> None:
    inside = {part for _, layer in adapters(model) for part in layer.modules()}
    parts: Mapping[str, nn.Module] = dict(cast("Any", model).named_modules())
    for name, part in parts.items():
        if part not in inside and isinstance(part._parameters.get("bias"), nn.Parameter):  # pyright: ignore[reportPrivateUsage] - a bias of its own, not a property
            model.set_submodule(name, TrainedCopy(part, ("bias",)).train(model.training))
