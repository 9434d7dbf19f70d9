"""Load a checkpoint: the configuration, then the model's tensors, mapped where they can be."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights import checksums, estimate
from blixt.llm.weights.counts import check_experts, check_layers
from blixt.llm.weights.estimate import BITS, Use
from blixt.llm.weights.fill import Plan, fill, main_dtype
from blixt.llm.weights.find import open_source
from blixt.llm.weights.gguf.config import arch_of, to_config, to_hf_config
from blixt.llm.weights.gguf.names import gguf_rules
from blixt.llm.weights.gguf.read import metadata_of
from blixt.llm.weights.packed import unpacked
from blixt.llm.weights.place import targets
from blixt.llm.weights.source import Source
from blixt.llm.weights.tables import family_rules

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float64": torch.float64,
}
if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

QUANTIZED = "quantized.safetensors"
DType = torch.dtype | str | None
_CHECKED_CONTEXT = 2048  # who loads a model will want to say at least so much to it


def load_checkpoint(
    path: str | Path,
    *,
    dtype: DType = None,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
    mesh: "DeviceMesh | None" = None,
    shard: Callable[[GPT], object] | None = None,
    copy: bool = False,
    check_memory: bool = True,
    use: Use | None = None,
    verify: bool = False,
) -> GPT:
    """The model of a checkpoint, in evaluation mode.

    On the CPU and in the dtype it is stored in, its parameters are the file's own pages: nothing is read
    before it is used, and processes that load one file share its memory. Writing to such a parameter copies
    the page and leaves the file alone; a training that writes them all should say `copy=True`.

    Args:
        path: A directory with `config.json`, or a `.gguf` file.
        dtype: Of the parameters, such as "bfloat16"; None keeps what most of the file is stored in (quantised
            GGUF becomes float32 on the CPU, bfloat16 elsewhere).
        device: Where the model goes.
        quantize: A kind of `blixt.llm.quant.quantize`, done block by block as tensors come.
        mesh: Of one dimension: tensor parallel over it; each rank reads only its own rows and columns.
        shard: Called with the model before it has memory, to make its parameters DTensors in another way
            (`fully_shard`); each rank then reads its own parts only, too.
        copy: Let no parameter share memory with the file.
        check_memory: Refuse at once what cannot fit the memory that is free.
        use: What it shall be used for, whose precision is that of the weights; None is a conversation of
            2,048 tokens.
        verify: Compare the checksums that this library writes first. It reads every byte, about a second a
            gigabyte; without it a flipped bit of a number is noticed by `validate` only.

    Raises:
        ConfigError: The configuration is missing or describes a model that cannot be expressed.
        WeightsError: A file is missing, truncated or damaged, or a tensor missing, surplus or misshapen.
        TooLittleMemoryError: It does not fit; the text says what would.
    """
    if verify:
        checksums.verify(path)
    if (Path(path) / QUANTIZED).exists():
        return _load_quantized(Path(path), device, quantize)
    source, config = open_checkpoint(path)
    model = GPT.empty(config)
    plan = plan_for(model, source)
    where = torch.device(device)
    wanted = as_dtype(dtype) or main_dtype(plan.infos(), where)
    if mesh is not None:
        from blixt.llm.parallel.tensor import apply_tensor_parallel

        apply_tensor_parallel(model, mesh)
    if shard is not None:
        shard(model)
    if check_memory and mesh is None and shard is None:
        _check_memory(config, wanted, where, quantize, use)
    source.will_need()
    after = partial(_quantize_part, model, quantize) if quantize else None
    fill(model, plan, dtype=wanted, device=where, copy=copy, after_block=after)
    if quantize:
        _quantize_part(model, quantize, "")
    return model.eval()


def load_weights(model: GPT, path: str | Path) -> None:
    """Fill a model from a checkpoint of its own configuration.

    Args:
        model: On any device, in any dtype, sharded or not; parameters without memory get the file's dtype.
        path: As for `load_checkpoint`.

    Raises:
        WeightsError: A file is missing, truncated or damaged, or a tensor missing, surplus or misshapen.
    """
    plan = plan_for(model, unpacked(open_source(path), None))
    tensors = (slot.tensor for slot in targets(model).values())
    device = next((tensor.device for tensor in tensors if not tensor.is_meta), torch.device("cpu"))
    fill(model, plan, dtype=main_dtype(plan.infos(), device), device=device)


def open_checkpoint(path: str | Path) -> tuple[Source, ModelConfig]:
    """A checkpoint's tensors and its configuration.

    Raises:
        ConfigError: The configuration is missing or cannot be expressed.
        WeightsError: The files are missing, truncated or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"{path} does not exist: is it a checkpoint directory or a .gguf file?")
    if not _is_gguf(path):
        config = read_config(path)
        source = unpacked(open_source(path), read_hf_config(path).get("quantization_config"))
        check_layers(config.layers, source)
        check_experts(family_rules(config), source)
        return source, config
    source = open_source(path)
    return source, to_config(metadata_of(source) or {}, source)


def plan_for(model: GPT, source: Source) -> Plan:
    """Which tensors of a source make which of a model's.

    Raises:
        ConfigError: The source is GGUF of an architecture that is not read.
        WeightsError: A tensor is missing, surplus or misshapen.
    """
    shapes = {name: slot.tensor.shape for name, slot in targets(model).items()}
    metadata = metadata_of(source)
    if metadata is not None:
        rules = gguf_rules(model.config, arch_of(metadata)[1], shapes, source.infos)
    else:
        rules = family_rules(model.config)
    return Plan(source, rules, model.config, shapes)


def read_config(path: str | Path) -> ModelConfig:
    """The configuration of a checkpoint: `config.json` in a directory, or a GGUF file's metadata.

    Raises:
        ConfigError: It is missing, damaged, or describes a model that cannot be expressed.
    """
    path = Path(path)
    if _is_gguf(path):
        source = open_source(path)
        return to_config(metadata_of(source) or {}, source)
    return ModelConfig.load(path if path.is_dir() else path.parent)


def read_hf_config(path: str | Path) -> dict[str, Any]:
    """The plain `config.json` of a checkpoint; for GGUF, what it would be.

    Raises:
        ConfigError: It is missing or not JSON.
    """
    path = Path(path)
    if _is_gguf(path):
        source = open_source(path)
        return to_hf_config(metadata_of(source) or {}, source)
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        return cast("dict[str, Any]", json.loads(file.read_text("utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist: is {path} a checkpoint directory?") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}") from None


def as_dtype(dtype: DType) -> torch.dtype | None:
    """A dtype from its name, such as "bfloat16" or "bf16".

    Raises:
        WeightsError: There is no such dtype.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise WeightsError(f"there is no dtype {dtype!r} for weights; take one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


@torch.no_grad()
def writable(model: nn.Module) -> None:
    """Give every parameter memory of its own, so that training copies no mapped file page by page."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous().clone()


def _is_gguf(path: Path) -> bool:
    if path.is_dir():
        return not (path / "config.json").exists() and any(path.glob("*.gguf"))
    return path.suffix == ".gguf"


def _load_quantized(path: Path, device: str | torch.device, quantize: str | None) -> GPT:
    from blixt.llm.quant import load_quantized

    if quantize is not None:
        raise WeightsError(f"{path} is quantised already: load it without quantize={quantize!r}")
    return load_quantized(path, device)


def _check_memory(
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    quantize: str | None,
    use: Use | None,
) -> None:
    precision = quantize or str(dtype).removeprefix("torch.")
    if precision in BITS:  # others say themselves that they do not exist
        use = use or Use(context=_CHECKED_CONTEXT)
        meant = replace(use, precision=precision, context=min(config.context, use.context or config.context))
        estimate.check_memory(config, meant, device)


def _quantize_part(model: GPT, kind: str, name: str) -> None:
    from blixt.llm.quant import quantize

    quantize(model.get_submodule(name), kind)
