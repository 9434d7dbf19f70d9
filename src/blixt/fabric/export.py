"""Weights as safetensors files, which other tools read and which can hold nothing but tensors."""

import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch

from blixt.fabric.checkpoint.io import load_file, local
from blixt.fabric.errors import CheckpointError, ConfigError

PathLike = str | os.PathLike[str]
_NAME = "model.safetensors"
_INDEX = f"{_NAME}.index.json"


def save_safetensors(
    state: Mapping[str, Any],
    path: PathLike,
    *,
    max_shard_size_bytes: int = 5_000_000_000,
    metadata: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write a module's state.

    Args:
        state: Names to tensors, whole ones, as `Strategy.module_state` and `Module.state_dict` give them.
            Tensors that share memory are written once; the file's metadata says which name stands for which.
        path: A file, or a directory that gets "model.safetensors" and, when the tensors do not fit one file,
            numbered files with "model.safetensors.index.json", as Hugging Face lays them out.
        max_shard_size_bytes: The most tensors of one file in a directory may take.
        metadata: Words to keep in the file.

    Returns:
        The files that hold tensors.
    """
    save_file = import_module("safetensors.torch").save_file

    tensors, shared = _distinct(state)
    notes = {"format": "pt", **(metadata or {}), **shared}
    target = local(path)
    if target.suffix:
        return [_write(save_file, tensors, target, notes)]
    target.mkdir(parents=True, exist_ok=True)
    shards = _by_size(tensors, max_shard_size_bytes)
    if len(shards) == 1:
        return [_write(save_file, tensors, target / _NAME, notes)]
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    files = [_write(save_file, part, target / name, notes) for part, name in zip(shards, names, strict=True)]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    where = {key: name for part, name in zip(shards, names, strict=True) for key in part}
    index = {"metadata": {"total_size": size, **shared}, "weight_map": where}
    (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return files


def load_safetensors(path: PathLike) -> dict[str, torch.Tensor]:
    """Read what `save_safetensors` (or Hugging Face) wrote: a file, or a directory of them."""
    from safetensors import SafetensorError, safe_open

    source = local(path)
    state: dict[str, torch.Tensor] = {}
    shared: dict[str, str] = {}
    for file in _files(source):
        try:
            with cast("Any", safe_open)(file, framework="pt") as opened:
                names: list[str] = opened.keys()
                state.update({name: opened.get_tensor(name) for name in names})
                shared.update(opened.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is no readable safetensors file: {error}.") from error
    for name, other in shared.items():
        if name not in state and other in state:
            state[name] = state[other]
    return state


def export_safetensors(
    checkpoint: PathLike, path: PathLike, *, key: str | None = None, prefix: str = "", **options: Any
) -> list[Path]:
    """Write the weights in a checkpoint, a file or a sharded directory, as safetensors.

    Args:
        checkpoint: What `Fabric.save`, a Trainer or Lightning wrote.
        path: See `save_safetensors`.
        key: Under which name the checkpoint keeps the module; None looks for "state_dict", "model", or a
            checkpoint that is nothing but weights.
        prefix: Taken off the names that have it; names without it are left out.
        options: What else `save_safetensors` takes.
    """
    from blixt.fabric.checkpoint.consolidate import read_whole

    source = local(checkpoint)
    content: dict[str, Any] = read_whole(source) if source.is_dir() else load_file(source)
    weights = _weights(content, key, checkpoint)
    cut = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
    if not cut:
        raise ConfigError(
            "export(prefix)", prefix, "no weight has it", f"Names begin like {next(iter(weights))!r}"
        )
    return save_safetensors(cut, path, **options)


def _weights(content: dict[str, Any], key: str | None, source: PathLike) -> dict[str, Any]:
    for name in ("state_dict", "model") if key is None else (key,):
        if isinstance(content.get(name), Mapping):
            return dict(content[name])
    if key is None and content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return content
    found = ", ".join(repr(name) for name in content)
    raise CheckpointError(f"{source} holds no module under {key or 'state_dict'!r}. It holds {found}.")


def _distinct(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors that a file can hold, and which names stand for another one's tensor."""
    tensors: dict[str, torch.Tensor] = {}
    shared: dict[str, str] = {}
    seen: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            continue
        key = (value.data_ptr(), value.shape, value.stride())
        if value.numel() and key in seen:
            shared[name] = seen[key]
        else:
            seen[key] = name
            tensors[name] = value.detach().cpu().contiguous().clone()
    return tensors, shared


def _by_size(tensors: dict[str, torch.Tensor], most: int) -> list[dict[str, torch.Tensor]]:
    shards: list[dict[str, torch.Tensor]] = [{}]
    room = most
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room and shards[-1]:
            shards.append({})
            room = most
        shards[-1][name] = tensor
        room -= size
    return shards


def _write(save: Any, tensors: dict[str, torch.Tensor], target: Path, notes: dict[str, str]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        save(tensors, partial, notes)
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"{target} could not be written: {error}.") from error
    return target


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    index = source / _INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise CheckpointError(f"{index} points outside of its directory, to {outside[0]}.")
        return [source / name for name in names]
    if (source / _NAME).is_file():
        return [source / _NAME]
    raise CheckpointError(f"There are no safetensors at {source}. Give a file, or a directory with {_NAME}.")
