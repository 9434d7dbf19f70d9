"""GGUF against transformers, which reads the format on its own: the same file, the same logits.

Sizes are transformers' defaults where its reader does not take them from the file. Architectures that it does
not read (Gemma 1, OLMo 2, SmolLM 3, Granite, Cohere 2, Mixtral) are compared with the model they came from.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint
from blixt.llm.weights.convert import convert

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2}
WIDE: dict[str, Any] = {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 16}

SCALES: dict[str, Any] = {
    "embedding_multiplier": 2.0,
    "logits_scaling": 3.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
}

BOTH: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "qwen2": SIZES,
    "qwen2_moe": SIZES | EXPERTS | {"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
    "qwen3": SIZES | {"head_dim": 128},
    "qwen3_moe": SIZES | EXPERTS | {"head_dim": 128, "moe_intermediate_size": 768, "norm_topk_prob": True},
    "gemma2": SIZES | WIDE,
    "gemma3_text": SIZES | WIDE | {"num_hidden_layers": 7},
    "phi3": SIZES,
    "stablelm": SIZES,
    "starcoder2": SIZES | {"sliding_window": None},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024, "n_inner": 256},
}
OURS: dict[str, dict[str, Any]] = {
    "mixtral": SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "mistral": SIZES | {"sliding_window": None},
    "gemma": SIZES | {"head_dim": 32},
    "olmo2": SIZES,
    "smollm3": SIZES | {"num_hidden_layers": 5},
    "granite": SIZES | SCALES,
    "cohere2": SIZES | {"num_hidden_layers": 5, "sliding_window": 16},
}


def written(model_type: str, sizes: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path) -> tuple[Any, Path]:
    """A random model of transformers, and the GGUF made of it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{"vocab_size": len(tokenizer), **sizes, **IDS})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(tmp_path / "hf")
    tokenizer.save(tmp_path / "hf")
    return model, convert(tmp_path / "hf", tmp_path / "x.gguf", format="f32")


def worst(model: Any, expected: torch.Tensor, tokens: torch.Tensor) -> float:
    with torch.no_grad():
        found = model(tokens)
    logits = found if isinstance(found, torch.Tensor) else found.logits
    return float((logits - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("model_type", BOTH)
def test_transformers_reads_what_we_write_and_we_agree(
    model_type: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model, path = written(model_type, BOTH[model_type], tokenizer, tmp_path)
    tokens = torch.randint(3, len(tokenizer), (2, 40))
    expected = model(tokens).logits.detach()
    transformers.logging.set_verbosity_error()
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, attn_implementation="eager", dtype=torch.float32
    ).eval()
    assert worst(theirs, expected, tokens) < 1e-5
    assert worst(load_checkpoint(path), expected, tokens) < 1e-5


@pytest.mark.parametrize("model_type", OURS)
def test_a_model_of_transformers_comes_back_from_gguf(
    model_type: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model, path = written(model_type, OURS[model_type], tokenizer, tmp_path)
    tokens = torch.randint(3, len(tokenizer), (2, 40))
    assert worst(load_checkpoint(path), model(tokens).logits.detach(), tokens) < 1e-5
