"""Whether a run fits: against what autograd keeps and optimizers hold, and said before a weight is read."""

import json.decoder
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.llm.recipes.small import small_model, source_lines, write_rows

from blixt.llm import finetune
from blixt.llm.attention import Packed
from blixt.llm.config import ModelConfig, MoESpec
from blixt.llm.errors import TooLittleMemoryError
from blixt.llm.lora import LoRAConfig
from blixt.llm.model import GPT
from blixt.llm.recipes.adapt import adapt_model
from blixt.llm.recipes.dpo import dpo
from blixt.llm.recipes.optim import OptimConfig, make_optimizers
from blixt.llm.recipes.room import Run, needs
from blixt.llm.weights import estimate

BASE: dict[str, Any] = {"vocab": 96, "d": 64, "layers": 4, "heads": 4, "kv_heads": 2, "d_ff": 160}
SHAPES = {
    "gated": ModelConfig(**BASE),
    "plain": ModelConfig(**BASE, mlp="plain", norm="layer"),
    "normed": ModelConfig(**BASE, qk_norm="head"),
    "experts": ModelConfig(**BASE, moe=MoESpec(experts=4, top_k=2, d_ff=48)),
}


def kept_bytes(model: GPT, tokens: torch.Tensor) -> int:
    """What autograd keeps between forward and backward, weights not counted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.hidden(tokens, Packed(torch.zeros_like(tokens))).sum()
    return sum(kept.values())


@pytest.mark.parametrize("name", SHAPES)
def test_activations_are_what_autograd_keeps(name: str) -> None:
    shape, tokens = SHAPES[name], torch.randint(0, 96, (2, 128))
    counted = needs(Run(shape, 2, 128)).activations - 2 * 256 * shape.vocab * 4  # without the logits
    assert kept_bytes(GPT(shape).train(), tokens) == pytest.approx(counted, rel=0.2)


@pytest.mark.parametrize("adapt", ["full", "lora", "dora"])
def test_gradients_and_moments_are_those_that_training_makes(adapt: Any) -> None:
    shape = SHAPES["gated"]
    model = adapt_model(GPT(shape).train(), adapt, LoRAConfig(r=4))
    (optimizer,) = make_optimizers(model, OptimConfig())
    model(torch.randint(0, 96, (2, 16))).sum().backward()
    optimizer.step()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moments = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
    held = sum(t.nbytes for t in [*(p.grad for p in trained if p.grad is not None), *moments])
    held += sum(p.nbytes for p in trained) if adapt != "full" else 0
    counted = needs(Run(shape, 2, 16, adapt, LoRAConfig(r=4)))
    assert counted.training == pytest.approx(held, rel=0.01)
    assert counted.weights == pytest.approx(sum(p.nbytes for p in GPT(shape).parameters()), rel=0.01)


def test_what_divides_and_recomputes_takes_less() -> None:
    run = Run(SHAPES["gated"], 8, 128)
    whole = needs(run)
    assert needs(replace(run, shards=4)).training == whole.training // 4
    assert needs(replace(run, checkpointing="full")).activations < 0.4 * whole.activations
    assert needs(replace(run, parts=2)).activations == pytest.approx(whole.activations / 2, rel=0.01)
    assert needs(replace(run, adapt="qlora")).total < needs(replace(run, adapt="lora")).total < whole.total
    assert needs(replace(run, frozen=((run.model, "float32"),))).weights == 2 * whole.weights


def test_a_run_that_does_not_fit_is_told_with_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(tmp_path / "model")
    lines = source_lines(json.decoder)
    rows = [{"prompt": line[:9], "completion": line[9:], "chosen": "a", "rejected": "b"} for line in lines]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    asked: dict[str, Any] = {"adapt": "full", "block_size": 64, "batch_size": 16, "steps": 1}
    monkeypatch.setattr(estimate, "free_bytes", lambda device: 3_500_000)
    with pytest.raises(TooLittleMemoryError) as caught:
        finetune(model, data, tmp_path / "out", data_kind="completion", **asked)
    text = str(caught.value)
    assert "of activations for 16 x 64 tokens" in text
    assert "what would: micro_batch_size=4" in text
    assert not (tmp_path / "out" / "model.safetensors").exists()
    monkeypatch.setattr(estimate, "free_bytes", lambda device: 1000)
    with pytest.raises(TooLittleMemoryError, match="no setting makes it fit: use more devices"):
        dpo(model, data, out=str(tmp_path / "aligned"), data_kind="preference", steps=1)
