"""GGUF against transformers, which reads the format on its own: the same file, the same logits.

Sizes are transformers' defaults where its reader does not take them from the file. Architectures that it does
not read (Gemma 1, OLMo 2, Granite, DeepSeek ...; its reader of gpt-oss fails on real files) are compared with
the model they came from, and their tensors' names with the tables of the `gguf` package.
"""

import re
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, read_config
from blixt.llm.weights.convert import convert
from blixt.llm.weights.find import open_source
from blixt.llm.weights.gguf import read_metadata
from blixt.llm.weights.gguf.read import GGUFFile

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

FALCON: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "alibi": False,
    "bias": False,
}
LATENT: dict[str, Any] = {
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "n_shared_experts": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "beta_fast": 32,
    "beta_slow": 1,
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
    "falcon": FALCON | {"multi_query": True, "new_decoder_architecture": False},
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
    "falcon": FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True},
    "gpt_oss": SIZES
    | {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "gpt_neox": {name: size for name, size in SIZES.items() if name != "num_key_value_heads"},
    "phi": SIZES,
    "glm": SIZES | {"head_dim": 16, "attention_bias": True},
    "glm4": SIZES | {"head_dim": 16, "attention_bias": True},
    "glm4_moe": SIZES
    | {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 32},
    "deepseek_v2": SIZES | LATENT | {"q_lora_rank": None, "topk_method": "greedy", "n_group": 1},
    "deepseek_v3": SIZES | LATENT | {"q_lora_rank": 24, "rope_parameters": YARN},
    "llama4_text": SIZES
    | {
        "num_hidden_layers": 5,
        "head_dim": 16,
        "num_local_experts": 4,
        "interleave_moe_layer_step": 2,
        "intermediate_size_mlp": 128,
    },
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
    assert_named_as_by_the_package(path, tmp_path / "hf")


def assert_named_as_by_the_package(path: Path, directory: Path) -> None:
    """Every tensor has a name that llama.cpp knows for the architecture, and where the package's own table
    names a tensor of the Hugging Face checkpoint, it is that name."""
    arch = read_metadata(path)["general.architecture"]
    (kind,) = [key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch]
    known = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[kind]}
    written = set(GGUFFile(path).infos)
    assert {re.sub(r"^blk\.\d+\.", "blk.{bid}.", name).rsplit(".", 1)[0] for name in written} <= known
    config = read_config(directory)
    table = gguf.get_tensor_name_map(kind, config.layers)
    theirs = [table.get_name(name, (".weight", ".bias")) for name in open_source(directory).infos]
    # The converter calls parameters without an ending weights.
    ended = {name if name.endswith((".weight", ".bias")) else f"{name}.weight" for name in theirs if name}
    whole = ended - HALVES
    assert len(whole) >= 2 * config.layers
    assert whole <= written, whole - written


HALVES = {f"blk.{layer}.attn_kv_b.weight" for layer in range(9)}
"""llama.cpp's converter writes them as keys and values apart."""
