"""What dpo, grpo and distill share: the policy and its reference, batches by rank, and writing the result."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from blixt.fabric import Fabric
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig, add_lora, merge, save_peft
from blixt.llm.model import GPT
from blixt.llm.parallel import ParallelConfig
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint


def load_policy(path: str, precision: str, lora: LoRAConfig | None, quantize: str | None) -> GPT:
    """The model to train: the checkpoint's weights, or adapters beside them.

    Args:
        path: A checkpoint directory or `.gguf` file.
        precision: As Fabric has it; weights stay as stored for those that end in "-true" with fewer bits.
        lora: The adapters; None trains all weights.
        quantize: Kind of the frozen weights under the adapters; None leaves them as they are.

    Raises:
        RecipeError: Quantised weights without adapters cannot be trained.
    """
    if quantize and lora is None:
        raise RecipeError(f"quantize={quantize} freezes the weights: give lora settings to train beside them")
    model = load_checkpoint(path, dtype=_dtype(precision), quantize=quantize, copy=lora is None)
    return add_lora_to(model, lora).train()


def add_lora_to(model: GPT, lora: LoRAConfig | None) -> GPT:
    """The model, with adapters when there are settings for them."""
    if lora is not None:
        add_lora(model, lora)
    return model


def load_frozen(path: str, precision: str) -> GPT:
    """A model that is only looked at: a reference or a teacher, on the file's own pages."""
    return load_checkpoint(path, dtype=_dtype(precision)).eval().requires_grad_(False)


def export_policy(
    fabric: Fabric,
    model: GPT,
    tokenizer: Tokenizer,
    out: str | Path,
    base: str,
    metrics: Mapping[str, Any],
    *,
    merged: bool,
) -> None:
    """Write what was trained: a checkpoint directory, or an adapter in PEFT's format; every rank calls it.

    Args:
        fabric: Launched.
        model: The policy.
        tokenizer: Goes beside it.
        out: The directory.
        base: What the adapter belongs to.
        metrics: For `metrics.json`.
        merged: Fold adapters into the weights.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    adapted = any("lora_a" in name for name, _ in model.named_parameters())
    if adapted and not merged:
        if fabric.is_global_zero:
            save_peft(model, folder, base=base)
    else:
        if adapted:
            merge(model, unload=True)
        save_checkpoint(model, folder)
    if fabric.is_global_zero:
        tokenizer.save(folder)
        (folder / "metrics.json").write_text(json.dumps(dict(metrics), indent=2) + "\n", "utf-8")
    fabric.barrier()


def micro_batches(batch_size: int, micro_batch_size: int, ranks: int) -> tuple[int, int]:
    """Rows that a rank computes at once, and how often it does in a step.

    Args:
        batch_size: Rows a step over all ranks.
        micro_batch_size: Rows at once; 0 is a rank's whole share.
        ranks: That have different data.

    Raises:
        RecipeError: It does not divide evenly.
    """
    share = batch_size // ranks
    micro = micro_batch_size or share
    if batch_size < 1 or batch_size % ranks or not micro or share % micro:
        raise RecipeError(
            f"batch_size={batch_size} does not divide into micro-batches of {micro} on {ranks} ranks: change "
            "batch_size or micro_batch_size"
        )
    return micro, share // micro


def refuse_sharing(parallel: ParallelConfig, recipe: str) -> None:
    """Whole answers are needed on a rank.

    Raises:
        RecipeError: Layers or sequences shall be shared among ranks.
    """
    if parallel.cp > 1 or parallel.tp > 1:
        raise RecipeError(
            f"{recipe} runs on whole layers and sequences: leave parallel.tp and parallel.cp at 1, and use "
            "strategy fsdp for a large model"
        )


def apply_gradients(fabric: Fabric, model: nn.Module, optimizers: Sequence[Optimizer], clip: float) -> None:
    """Clip, step and clear."""
    for optimizer in optimizers:
        if clip:
            nonfinite = fabric.precision.compute_dtype is not torch.float16  # there the scaler's business
            fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=nonfinite)
        optimizer.step()
        optimizer.zero_grad()


def sum_over_ranks(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum of every rank's values."""
    return fabric.all_reduce(values, "sum")


def _dtype(precision: str) -> torch.dtype | None:
    return None if precision in ("bf16-true", "16-true", "bf16", "16") else torch.float32
