"""A model's tensors in safetensors, under the names that Hugging Face gives a Llama."""

import os
import re
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import (
    save_file,  # pyright: ignore[reportUnknownVariableType] - the type of its path is half given
)
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.model import GPT

FILE = "model.safetensors"

# Our name to theirs; `{i}` is the layer. Read both ways.
RULES = {
    "embed.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
    "blocks.{i}.attn_norm.weight": "model.layers.{i}.input_layernorm.weight",
    "blocks.{i}.attn.q.weight": "model.layers.{i}.self_attn.q_proj.weight",
    "blocks.{i}.attn.k.weight": "model.layers.{i}.self_attn.k_proj.weight",
    "blocks.{i}.attn.v.weight": "model.layers.{i}.self_attn.v_proj.weight",
    "blocks.{i}.attn.out.weight": "model.layers.{i}.self_attn.o_proj.weight",
    "blocks.{i}.mlp_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
    "blocks.{i}.mlp.gate.weight": "model.layers.{i}.mlp.gate_proj.weight",
    "blocks.{i}.mlp.up.weight": "model.layers.{i}.mlp.up_proj.weight",
    "blocks.{i}.mlp.down.weight": "model.layers.{i}.mlp.down_proj.weight",
}


def to_hf_name(name: str) -> str:
    """The Hugging Face name of one of our tensors."""
    layer = re.search(r"\.(\d+)\.", name)
    if layer is None:
        return RULES[name]
    return RULES[name.replace(layer[0], ".{i}.", 1)].replace("{i}", layer[1])


def save_weights(model: GPT, directory: str | Path) -> None:
    """Write `model.safetensors`; a shared embedding is written once. The file appears whole or not at all.

    Args:
        model: Whose parameters to write, in their own dtype.
        directory: An existing checkpoint directory.
    """
    tensors = {
        to_hf_name(name): parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
    }
    path = Path(directory) / FILE
    partial = path.with_suffix(".tmp")
    try:
        save_file(tensors, partial, metadata={"format": "pt"})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_weights(model: GPT, directory: str | Path) -> None:
    """Fill a model from `model.safetensors`, mapped rather than read.

    Raises:
        WeightsError: The file is missing or damaged, or a tensor is missing, unknown or of another shape.
    """
    path = Path(directory) / FILE
    try:
        with cast("Any", safe_open(path, framework="pt")) as file:
            _fill(model, {name: file.get_tensor(name) for name in file.keys()}, path)  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist: is {directory} a checkpoint directory?") from None
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}") from None


@torch.no_grad()
def _fill(model: GPT, tensors: dict[str, Tensor], path: Path) -> None:
    if model.config.tie:
        tensors.pop(RULES["head.weight"], None)
    wanted = {to_hf_name(name): parameter for name, parameter in model.named_parameters()}
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise WeightsError(f"{path} lacks {missing[0]} and {len(missing) - 1} more tensors of this config")
    if unknown := sorted(tensors.keys() - wanted.keys()):
        raise WeightsError(f"{path} holds {unknown[0]}, which this config has no place for")
    for name, parameter in wanted.items():
        if tensors[name].shape != parameter.shape:
            raise WeightsError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, "
                f"the config asks for {tuple(parameter.shape)}"
            )
        parameter.copy_(tensors[name])


def save_checkpoint(model: GPT, directory: str | Path) -> None:
    """Write `config.json` and `model.safetensors` into a directory, made when absent."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(model, directory)
    model.config.save(directory)


def load_checkpoint(directory: str | Path) -> GPT:
    """The model in a checkpoint directory, in evaluation mode on the CPU.

    Raises:
        ConfigError: `config.json` is missing or describes another kind of model.
        WeightsError: The weights do not fit it.
    """
    model = GPT(ModelConfig.load(directory))
    load_weights(model, directory)
    return model.eval()
