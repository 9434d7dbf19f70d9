"""A quantised model on disk: `config.json` as ever, and `quantized.safetensors` under our own names.

The header's metadata says of each converted layer which scheme and options it has; the tensors are the
layers' buffers and the other parameters as they are.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from blixt.llm.config import ModelConfig
from blixt.llm.errors import QuantError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.moe import Experts
from blixt.llm.quant.base import QuantLinear
from blixt.llm.quant.experts import QuantExperts
from blixt.llm.quant.swap import SCHEMES
from blixt.llm.weights.safetensors_file import SafetensorsFile
from blixt.llm.weights.safetensors_write import Shard, ShardWriter, publishing
from blixt.llm.weights.source import TensorInfo

FILE = "quantized.safetensors"
_FORMAT = "blixt-quantized-1"


def save_quantized(model: GPT, directory: str | Path) -> None:
    """Write a model that `quantize` has converted; `load_quantized` gives it back bit for bit.

    Args:
        model: With at least one converted layer.
        directory: Made when absent. Other files in it, such as the tokenizer's, stay.

    Raises:
        QuantError: No layer is quantised.
        WeightsError: The disk has no room.
    """
    layers = {name: _description(module) for name, module in _modules(model) if _is_quantised(module)}
    if not layers:
        raise QuantError("no layer of the model is quantised: call quantize first, or save_checkpoint")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = cast("dict[str, Tensor]", model.state_dict())
    shard = Shard(FILE, {name: _info(tensor) for name, tensor in tensors.items()})
    with publishing(directory, shard.size_bytes) as writers:
        writer = ShardWriter(directory / FILE, shard, {"format": _FORMAT, "layers": json.dumps(layers)})
        writers.append(writer)
        for name, tensor in tensors.items():
            writer.write(name, tensor)
        writer.close()
    model.config.save(directory)


def load_quantized(directory: str | Path, device: str | torch.device = "cpu") -> GPT:
    """The model that `save_quantized` wrote, in evaluation mode; on the CPU its tensors are the file's pages.

    Raises:
        ConfigError: The configuration is missing or cannot be expressed.
        WeightsError: The file is missing or damaged, or does not fit the configuration.
    """
    directory = Path(directory)
    model = GPT.empty(ModelConfig.load(directory))
    file = SafetensorsFile(directory / FILE)
    if file.metadata.get("format") != _FORMAT:
        raise WeightsError(f"{file.where} was not written by save_quantized")
    layers: dict[str, dict[str, Any]] = json.loads(file.metadata["layers"])
    for name, description in layers.items():
        model.set_submodule(name, _empty(model.get_submodule(name), description))
    tensors = {name: file.get(name).to(device) for name in file.infos}
    _check_names(set(cast("dict[str, Tensor]", model.state_dict())), set(tensors), file.where)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{file.where} does not fit its config.json: {error}") from None
    return model.requires_grad_(False).eval()


def schemes_of(directory: str | Path) -> list[str]:
    """The number formats of a model that `save_quantized` wrote, the most frequent first."""
    file = SafetensorsFile(Path(directory) / FILE)
    layers: dict[str, dict[str, Any]] = json.loads(file.metadata["layers"])
    return [scheme for scheme, _ in Counter(layer["scheme"] for layer in layers.values()).most_common()]


def _info(tensor: Tensor) -> TensorInfo:
    return TensorInfo(tuple(tensor.shape), tensor.dtype, str(tensor.dtype), tensor.nbytes)


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(cast("Any", model.named_modules()))


def _is_quantised(module: nn.Module) -> bool:
    return isinstance(module, QuantExperts | QuantLinear)


def _description(module: nn.Module) -> dict[str, Any]:
    """How to make the layer again: its scheme and options."""
    if isinstance(module, QuantExperts):
        return _description(cast("nn.ModuleList", module.gate)[0])
    assert isinstance(module, QuantLinear)
    return {"scheme": module.scheme, **module.options()}


def _empty(module: nn.Module, description: dict[str, Any]) -> nn.Module:
    """The quantised layer that stands for a plain one, without values."""
    options = dict(description)
    kind = SCHEMES[options.pop("scheme")]
    if isinstance(module, Experts):
        return QuantExperts.empty(module, kind, **options)
    if isinstance(module, QuantLinear):  # an expert's own, already made with its siblings
        return module
    assert isinstance(module, nn.Linear)
    bias = "bias" in module.state_dict()
    return kind(module.in_features, module.out_features, bias=bias, device="meta", **options)


def _check_names(wanted: set[str], found: set[str], where: Path) -> None:
    if missing := sorted(wanted - found):
        raise WeightsError(f"{where} lacks {missing[0]} and {len(missing) - 1} more tensors")
    if surplus := sorted(found - wanted):
        raise WeightsError(f"{where} holds {surplus[0]}, which its config.json has no place for")
