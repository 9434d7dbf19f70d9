"""Dividing a model into the stages of a pipeline, whose parameters keep their names."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

from torch import nn

from blixt.fabric.errors import ConfigError, nearest
from blixt.fabric.strategies.materialize import parts_of

StageFn = Callable[[nn.Module, int, int], nn.Module]
"""(whole model, index of the stage, number of stages) to the stage's module; it may take the model apart."""


def split(
    module: nn.Module,
    stages: int,
    wanted: Sequence[int],
    *,
    split_points: Sequence[str] | None = None,
    stage_fn: StageFn | None = None,
    example_args: tuple[Any, ...] | None = None,
) -> list[nn.Module]:
    """The modules of the stages `wanted`, whose parameters keep the names they have in `module`.

    Args:
        module: The whole model.
        stages: How many there are.
        wanted: Which of them to make.
        split_points: Names of the submodules that begin a stage, one less than there are stages. An
            `nn.Sequential` is divided by its children, and into parts of like size without names.
        stage_fn: Makes a stage itself, for models that are no sequence.
        example_args: Inputs of a micro-batch; with them, any model that `torch.export` understands is
            divided at `split_points`.

    Raises:
        ConfigError: When there is no way to divide this model.
    """
    if stage_fn is not None:
        return [stage_fn(module, index, stages) for index in wanted]
    if split_points is not None and len(split_points) != stages - 1:
        reason = f"{stages} stages need {stages - 1} points between them"
        raise ConfigError("PipelineStrategy(split_points)", list(split_points), reason, "Name that many")
    if isinstance(module, nn.Sequential):
        parts = _split_sequential(module, stages, split_points)
        return [parts[index] for index in wanted]
    if example_args is None or split_points is None:
        reason = f"{type(module).__name__} is no nn.Sequential, so something has to say where it is divided"
        fix = "Give stage_fn, or split_points with example_args, the inputs of one micro-batch"
        raise ConfigError("PipelineStrategy(stage_fn)", None, reason, fix)
    return _split_traced(module, wanted, split_points, example_args)


def merge_modules(parts: Sequence[nn.Module], into: nn.Module | None = None) -> nn.Module:
    """One tree of modules with everything that several trees have under its names; `into` gets the top of it.

    A submodule that one tree alone has is taken as it is.
    """
    if len(parts) == 1 and into is None:
        return parts[0]
    tree = nn.Module() if into is None else into
    children: dict[str, list[nn.Module]] = {}
    for part in parts:
        for name, parameter in part.named_parameters(recurse=False):
            tree.register_parameter(name, parameter)
        kept = part.state_dict(keep_vars=True)
        for name, buffer in part.named_buffers(recurse=False):
            tree.register_buffer(name, buffer, persistent=name in kept)
        for name, child in part.named_children():
            children.setdefault(name, []).append(child)
    for name, owners in children.items():
        tree.add_module(name, merge_modules(owners))
    return tree


def _split_sequential(
    module: nn.Sequential, stages: int, split_points: Sequence[str] | None
) -> list[nn.Sequential]:
    children = dict(module.named_children())
    names = list(children)
    if len(names) < stages:
        reason = f"{stages} stages need at least as many children, and there are {len(names)}"
        raise ConfigError("PipelineStrategy(split_points)", split_points, reason, "Use fewer stages")
    if split_points is None:
        begins = _even(list(children.values()), stages)
    else:
        unknown = [name for name in split_points if name not in children]
        if unknown:
            hint = nearest(unknown[0], names).rstrip("?")
            raise ConfigError("PipelineStrategy(split_points)", unknown[0], "there is no such child", hint)
        begins = sorted(names.index(name) for name in split_points)
    edges = [0, *begins, len(names)]
    parts: list[nn.Sequential] = []
    for begin, end in pairwise(edges):
        part = nn.Sequential()
        for name in names[begin:end]:
            part.add_module(name, children[name])
        parts.append(part)
    return parts


def _even(children: list[nn.Module], stages: int) -> list[int]:
    """Where stages but the first begin, so that their numbers of parameters are alike and none is empty."""
    sizes = [1 + sum(parameter.numel() for parameter in child.parameters()) for child in children]
    total, done, begins = sum(sizes), 0, cast("list[int]", [])
    for index, size in enumerate(sizes):
        stage = len(begins) + 1
        left = len(sizes) - index
        due = done + size / 2 > total * stage / stages
        if index and stage < stages and (due or left == stages - stage):
            begins.append(index)
        done += size
    return begins


def _split_traced(
    module: nn.Module, wanted: Sequence[int], split_points: Sequence[str], example_args: tuple[Any, ...]
) -> list[nn.Module]:
    from torch.distributed.pipelining import SplitPoint, pipeline

    spec = dict.fromkeys(split_points, SplitPoint.BEGINNING)
    names = [name for name, _ in parts_of(module)]
    unknown = [name for name in split_points if name not in names]
    if unknown:
        hint = nearest(unknown[0], names).rstrip("?")
        raise ConfigError("PipelineStrategy(split_points)", unknown[0], "there is no such submodule", hint)
    piped = pipeline(module, mb_args=example_args, split_spec=spec)
    return [cast("Any", piped).get_stage_module(index) for index in wanted]


def known_names(module: nn.Module) -> Mapping[str, int]:
    """Every name in the module's state and its parameters, with its place in the order of the whole model."""
    names = dict.fromkeys([*(name for name, _ in module.named_parameters()), *module.state_dict()])
    return {name: place for place, name in enumerate(names)}
