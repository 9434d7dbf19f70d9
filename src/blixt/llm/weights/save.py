"""Save a model as a Hugging Face checkpoint: safetensors under the family's names, and `config.json`."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights.place import targets
from blixt.llm.weights.read import QUANTIZED, DType, as_dtype
from blixt.llm.weights.rules import Entry, check_present, entries
from blixt.llm.weights.safetensors_write import plan_shards, write_atomically, write_tensors
from blixt.llm.weights.source import TensorInfo
from blixt.llm.weights.tables import family_rules

MAX_SHARD_BYTES = 5_000_000_000


def save_checkpoint(
    model: GPT,
    directory: str | Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    dtype: DType = None,
) -> None:
    """Write weights and `config.json` into a directory, which transformers and this library read back.

    Files appear whole or not at all, and those of a save before are removed after; a model with quantised
    layers is written by `blixt.llm.quant.save_quantized`. Tensors are laid out and written one rule at a
    time, so that no second copy of the model is needed. With DTensors (FSDP2, tensor parallel) every rank
    must call this; the first one writes.

    Args:
        model: Whose parameters to write; a shared embedding is written once.
        directory: Made when absent.
        max_shard_bytes: A larger model is written in several files with an index.
        dtype: Of the floating parameters on disk; None keeps each as it is.

    Raises:
        ConfigError: The family's `config.json` cannot say what the model is.
        WeightsError: The disk has no room, or the model has layers that the family's rules do not know (with
            adapters that were not merged).
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if _is_quantised(model):
        from blixt.llm.quant import save_quantized

        return save_quantized(model, directory)
    model.config.to_hf()  # says what its family's config.json cannot, before anything is written
    save_weights(model, directory, max_shard_bytes=max_shard_bytes, dtype=dtype)
    if _writes():
        (directory / QUANTIZED).unlink(missing_ok=True)
        save_config(model.config, directory, as_dtype(dtype) or _main(model))


def save_weights(
    model: GPT, directory: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES, dtype: DType = None
) -> None:
    """Write the weights alone; see `save_checkpoint`.

    Raises:
        WeightsError: As there.
    """
    state = {name: slot.tensor for name, slot in targets(model).items()}
    infos = {name: TensorInfo.plain(tensor.shape, tensor.dtype) for name, tensor in state.items()}
    write_state(
        directory,
        model.config,
        infos,
        lambda name: _whole(state[name]),
        max_shard_bytes=max_shard_bytes,
        dtype=as_dtype(dtype),
    )
    if _is_distributed() and any(_is_dtensor(tensor) for tensor in state.values()):
        torch.distributed.barrier()  # pyright: ignore[reportUnknownMemberType] - half typed


def write_state(
    directory: str | Path,
    config: ModelConfig,
    infos: Mapping[str, TensorInfo],
    get: Callable[[str], Tensor],
    *,
    max_shard_bytes: int,
    dtype: torch.dtype | None,
) -> None:
    """Write a model's tensors, asked for one after another, as safetensors under its family's names.

    Args:
        directory: Must exist.
        config: The model's.
        infos: Shape and dtype of each of the model's tensors.
        get: Gives one of them.
        max_shard_bytes: A larger model is written in several files with an index.
        dtype: Of floating tensors on disk; None keeps each as it is.

    Raises:
        WeightsError: The disk has no room, or a tensor of the family's rules is not there.
    """
    plan = list(entries(family_rules(config), config))
    for entry in plan:
        check_present(entry.ours, infos, "the model (merge adapters first)")

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for entry in plan:
            parts = [_cast(get(name), dtype) for name in entry.ours]
            yield from zip(entry.theirs, entry.save(parts), strict=True)

    if _writes():
        announced = dict(info for entry in plan for info in _announce(entry, infos, dtype))
        write_tensors(Path(directory), plan_shards(announced, max_shard_bytes), tensors, {})
    else:
        for _ in tensors():  # the first rank needs this one's parts
            pass


def save_config(config: ModelConfig, directory: Path, dtype: torch.dtype) -> None:
    """Write `config.json` with the dtype that the weights have."""
    data = config.to_hf() | {"torch_dtype": str(dtype).removeprefix("torch.")}
    write_atomically(directory / "config.json", json.dumps(data, indent=2) + "\n")


def _announce(
    entry: Entry, infos: Mapping[str, TensorInfo], dtype: torch.dtype | None
) -> Iterator[tuple[str, TensorInfo]]:
    made = entry.save([_cast(infos[name].meta(), dtype) for name in entry.ours])
    for name, tensor in zip(entry.theirs, made, strict=True):
        yield name, TensorInfo.plain(tensor.shape, tensor.dtype)


def _whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be spread over ranks."""
    from torch.distributed.tensor import DTensor

    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _main(model: nn.Module) -> torch.dtype:
    largest = max(model.parameters(), key=lambda parameter: parameter.numel(), default=None)
    if largest is None:
        raise WeightsError("the model has no parameters to save")
    return largest.dtype


def _is_dtensor(tensor: Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _is_quantised(model: nn.Module) -> bool:
    from blixt.llm.quant.base import QuantLinear

    return any(isinstance(module, QuantLinear) for module in model.modules())


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _writes() -> bool:
    return not _is_distributed() or torch.distributed.get_rank() == 0
