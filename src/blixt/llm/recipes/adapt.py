"""The base model of a run, what of it is trained, and what is written at the end."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from blixt.llm.config import ModelConfig
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig, add_lora, load_peft, merge, save_peft
from blixt.llm.model import GPT
from blixt.llm.recipes.resume import load_best
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint

Adapt = Literal["full", "lora", "dora", "qlora"]
Scheme = Literal["nf4", "int8", "int4", "fp8"]


def load_base(path: str | Path, adapt: Adapt, precision: str, quantize: Scheme | None = None) -> GPT:
    """The model that training starts from, on the CPU and frozen where `adapt` freezes it.

    Weights that are trained are kept in float32 unless the precision is a "-true" one, and are writable.
    Frozen ones stay as they are on disk, mapped, where a GPU will compute in 16 bits; float32 on the CPU.

    Args:
        path: A checkpoint directory or a `.gguf` file.
        adapt: full trains all weights; qlora quantises the frozen ones.
        precision: Fabric's.
        quantize: The number format of qlora; None is nf4.

    Raises:
        LLMError: The checkpoint cannot be read.
        RecipeError: `quantize` is given and nothing is frozen.
    """
    if quantize is not None and adapt != "qlora":
        raise RecipeError(f"quantize={quantize} needs frozen weights: use adapt=qlora, not {adapt}")
    half = {"bf16-true": torch.bfloat16, "16-true": torch.float16}.get(precision)
    kept = None if torch.cuda.is_available() and adapt != "full" else torch.float32
    scheme = (quantize or "nf4") if adapt == "qlora" else None
    model = load_checkpoint(path, dtype=half or kept, quantize=scheme, copy=adapt == "full")
    return model.train()


def adapt_model(model: GPT, adapt: Adapt, lora: LoRAConfig) -> GPT:
    """Freeze what is not trained and put adapters on, in place; "full" trains everything."""
    if adapt == "full":
        return model.requires_grad_()
    add_lora(model, replace(lora, dora=lora.dora or adapt == "dora"))
    return model


def base_config(path: str | Path) -> ModelConfig:
    """The configuration of a checkpoint directory or a `.gguf` file, without its weights."""
    from blixt.llm.weights import read_config

    return read_config(path)


def export(
    base: str | Path,
    weights: Path,
    out: str | Path,
    tokenizer: Tokenizer,
    metrics: Mapping[str, Any],
    adapt: Adapt = "full",
    lora: LoRAConfig | None = None,
    *,
    merged: bool = True,
) -> None:
    """Write what a run learned: a checkpoint directory, and for adapters also `adapter/` in PEFT's format.

    It is put together from the base model and the trained weights that `save_best` wrote, so it does not
    matter how they were divided in training. One rank calls it.

    Args:
        base: What training started from.
        weights: The trained weights.
        out: The directory, made when absent.
        tokenizer: Written beside the model, chat template included.
        metrics: Written as `metrics.json`.
        adapt: As in training.
        lora: As in training.
        merged: Write the whole model, too, with the adapter folded into the base weights as they are on
            disk, not as they were quantised in training.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if adapt == "full":
        model = GPT.empty(base_config(base), device="cpu")
        load_best(weights, model, inside="model.")
        save_checkpoint(model, folder)
    else:
        holder = adapt_model(load_base(base, "lora", "32"), adapt, lora or LoRAConfig())
        load_best(weights, holder, inside="model.")
        save_peft(holder, folder / "adapter", base=str(base))
        tokenizer.save(folder / "adapter")
        if merged:
            del holder
            merge_adapter(base, folder / "adapter", folder)
    if adapt == "full" or merged:
        tokenizer.save(folder)
    (folder / "metrics.json").write_text(json.dumps(dict(metrics), indent=2) + "\n", "utf-8")


def merge_adapter(base: str | Path, adapter: str | Path, out: str | Path) -> Path:
    """Fold an adapter in PEFT's format into its base model and write the whole as a checkpoint directory.

    Args:
        base: Checkpoint directory or `.gguf` file of the base model.
        adapter: Directory with `adapter_config.json` and `adapter_model.safetensors`.
        out: Where to write; not the base itself.

    Returns:
        `out`.

    Raises:
        LLMError: A file cannot be read, the adapter is for another model, or `out` is the base.
    """
    if Path(base).resolve() == Path(out).resolve():
        raise RecipeError(f"{out} is the base model itself: choose another directory for the merged one")
    model = load_peft(load_checkpoint(base), adapter)
    merge(model, unload=True)
    assert isinstance(model, GPT)
    save_checkpoint(model, out)
    Tokenizer.load(base).save(Path(out))
    return Path(out)
