"""A sharded checkpoint as one ordinary file."""

import os
from pathlib import Path
from typing import Any, cast

import torch

from blixt.fabric.checkpoint.dcp import INDEX_FILE, META_FILE, is_complete, load_directory, recover
from blixt.fabric.checkpoint.io import load_file, local, save_file
from blixt.fabric.checkpoint.lazy import LazyState
from blixt.fabric.checkpoint.sharded import MARK
from blixt.fabric.errors import CheckpointError, CheckpointNotFoundError, ConfigError

PathLike = str | os.PathLike[str]


def consolidate(folder: PathLike, output_file: PathLike | None = None) -> Path:
    """Put a sharded checkpoint together, in one process and without a GPU.

    Reads directories of blixt, of Lightning and of torch's `distributed.checkpoint`; runs nothing that is in
    them.

    Args:
        folder: The directory.
        output_file: Where to; `<folder>.consolidated` when left out. One that ends with ".safetensors" gets
            the module's weights alone, in that format.

    Returns:
        The file. `torch.load` and every strategy read it, but for safetensors.
    """
    source = local(folder)
    target = Path(output_file) if output_file is not None else source.with_name(f"{source.name}.consolidated")
    if target.is_dir():
        raise ConfigError("consolidate(output_file)", str(target), "it is a directory", "Name a file")
    if target.suffix == ".safetensors":
        from blixt.fabric.export import export_safetensors  # which needs this file to read directories

        return export_safetensors(source, target)[0]
    save_file(target, read_whole(source))
    return target


def read_whole(folder: PathLike) -> dict[str, Any]:
    """The content of a sharded checkpoint with all tensors whole, on the CPU."""
    recover(folder)
    source = local(folder)
    if not source.is_dir():
        raise CheckpointNotFoundError(
            f"There is no sharded checkpoint at {source.absolute()}. Give its directory."
        )
    if not (source / INDEX_FILE).is_file():
        reason = "its writer was stopped" if any(source.glob("*.distcp")) else "it is another kind of folder"
        raise CheckpointError(f"{source} holds no complete checkpoint: {INDEX_FILE} is missing, so {reason}.")
    if not (source / META_FILE).is_file():
        return LazyState(source, (), {}).load()
    if is_complete(source) and _is_ours(source):
        return cast("dict[str, Any]", _loaded(load_directory(source)))
    return _with_optimizers({**LazyState(source, (), {}).load(), **load_file(source / META_FILE)})


def _is_ours(folder: Path) -> bool:
    def marked(item: Any) -> bool:
        if isinstance(item, dict):
            content = cast("dict[Any, Any]", item)
            return MARK in content or any(marked(value) for value in content.values())
        return isinstance(item, list) and any(marked(value) for value in cast("list[Any]", item))

    return marked(load_file(folder / META_FILE))


def _loaded(item: Any) -> Any:
    """`item` with every lazy state read, and optimizers numbered as `torch.save` files have them."""
    if isinstance(item, LazyState):
        state = item.load()
        return numbered_by_order(state) if "param_groups" in state else state
    if isinstance(item, dict):
        return {key: _loaded(value) for key, value in cast("dict[Any, Any]", item).items()}
    if isinstance(item, list):
        return [_loaded(value) for value in cast("list[Any]", item)]
    return item


def numbered_by_order(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state with parameters numbered in the order of its groups, as torch does."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    number = {name: index for index, name in enumerate(names)}
    groups = [
        {**group, "params": [number[name] for name in group["params"]]} for group in state["param_groups"]
    ]
    entries = {number[name]: values for name, values in state.get("state", {}).items() if name in number}
    return {"state": dict(sorted(entries.items())), "param_groups": groups}


def _with_optimizers(content: dict[str, Any]) -> dict[str, Any]:
    """Lightning's directories keep optimizers as "optimizer_0", ...; its files as a list."""
    keys = sorted(key for key in content if key.startswith("optimizer_") and key[10:].isdigit())
    if keys and "optimizer_states" not in content:
        content["optimizer_states"] = [content.pop(key) for key in keys]
    return content


def whole_tensors(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a module's state, and nothing else."""
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
