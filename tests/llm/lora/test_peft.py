"""Adapters in PEFT's files: what peft wrote runs here, what is written here peft runs, with equal logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    Llama4TextConfig,
    LlamaConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from blixt.llm.errors import AdapterError
from blixt.llm.lora import LoRAConfig, add_lora, load_peft, lora_state, merge, read_peft, save_peft
from blixt.llm.model import GPT
from blixt.llm.weights import load_checkpoint, save_checkpoint

TOKENS = torch.arange(1, 25).view(2, 12)
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
LLAMA = LlamaConfig(**SIZES, num_key_value_heads=2, attention_bias=True, tie_word_embeddings=False)
TIED = LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True)
PHI3 = Phi3Config(**SIZES, num_key_value_heads=2)
NEOX = GPTNeoXConfig(**SIZES)
GPT2 = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)

LATENT = DeepseekV3Config(
    **SIZES,
    num_key_value_heads=4,
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=8,
    first_k_dense_replace=1,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    moe_intermediate_size=16,
)
EXPERTS: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "num_experts_per_tok": 2}
MIXTRAL = MixtralConfig(**EXPERTS, num_local_experts=4)
QWEN3 = Qwen3MoeConfig(**EXPERTS, num_experts=4, moe_intermediate_size=24, head_dim=8)
GPT_OSS = GptOssConfig(**EXPERTS, num_local_experts=4, head_dim=8)
GPT_OSS_SQUARE = GptOssConfig(**{**EXPERTS, "intermediate_size": 32}, num_local_experts=4, head_dim=8)
LLAMA4 = Llama4TextConfig(
    **{**EXPERTS, "num_experts_per_tok": 1},
    num_local_experts=4,
    head_dim=8,
    intermediate_size_mlp=48,
    interleave_moe_layer_step=1,
)
LLAMA4_SQUARE = Llama4TextConfig(**{**LLAMA4.to_dict(), "intermediate_size": 32})
BOTH = ["experts.gate_up_proj", "experts.down_proj"]


def written(config: Any, folder: Path) -> PreTrainedModel:
    """A tiny model of transformers' with decisive weights, also on disk."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    return model


def stirred(parameters: Any) -> None:
    """Give an adapter something that it learned."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return (ours - theirs).abs().max().item() < 1e-5 * theirs.abs().max().item()


THEIRS = {
    "lora": (LLAMA, {"target_modules": ["q_proj", "v_proj"]}),
    "dora": (LLAMA, {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "rslora": (LLAMA, {"target_modules": "all-linear", "use_rslora": True}),
    "bias of lora": (LLAMA, {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "all biases": (LLAMA, {"target_modules": ["q_proj"], "bias": "all"}),
    "modules to save": (
        LLAMA,
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    ),
    "patterns": (
        LLAMA,
        {
            "target_modules": ["q_proj", "v_proj", "up_proj"],
            "rank_pattern": {"layers.0.self_attn.q_proj": 2, "up_proj": 8},
            "alpha_pattern": {"v_proj": 3},
        },
    ),
    "fused qkv": (PHI3, {"target_modules": ["qkv_proj", "gate_up_proj"], "use_dora": True}),
    "interleaved qkv": (NEOX, {"target_modules": ["query_key_value", "dense_4h_to_h"]}),
    "latent attention": (
        LATENT,
        {"target_modules": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]},
    ),
    "transposed": (GPT2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "experts": (MIXTRAL, {"target_modules": ["q_proj"], "target_parameters": BOTH}),
    "experts and router": (
        QWEN3,
        {"target_modules": ["v_proj"], "target_parameters": [*BOTH, "gate.weight"], "use_rslora": True},
    ),
    "one of the experts' parameters": (
        LATENT,
        {
            "target_modules": ["kv_b_proj"],
            "target_parameters": ["1.mlp.experts.down_proj"],
        },
    ),
    "experts with ranks": (
        QWEN3,
        {
            "target_modules": [],
            "target_parameters": BOTH,
            "rank_pattern": {"experts.down_proj": 2},
            "alpha_pattern": {"layers.0.mlp.experts.gate_up_proj": 3},
        },
    ),
    "experts that lie transposed": (GPT_OSS, {"target_modules": [], "target_parameters": BOTH}),
    "experts that lie transposed and square": (
        GPT_OSS_SQUARE,
        {"target_modules": [], "target_parameters": BOTH},
    ),
    "experts whose inputs are weighed": (LLAMA4, {"target_modules": [], "target_parameters": BOTH}),
    "experts whose inputs are weighed, square": (
        LLAMA4_SQUARE,
        {"target_modules": [], "target_parameters": BOTH},
    ),
    "embedding and head": (LLAMA, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "a tied embedding": (TIED, {"target_modules": ["q_proj", "embed_tokens"]}),
    "a tied head": (TIED, {"target_modules": ["q_proj", "lm_head"]}),
}


@pytest.mark.parametrize("kind", THEIRS)
def test_an_adapter_that_peft_wrote_gives_the_same_logits_here(kind: str, tmp_path: Path) -> None:
    config, options = THEIRS[kind]
    base = written(config, tmp_path / "base")
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options)).eval()
    stirred(p for p in model.parameters() if p.requires_grad)
    model.save_pretrained(tmp_path / "adapter")
    ours = load_peft(load_checkpoint(tmp_path / "base"), tmp_path / "adapter")
    with torch.inference_mode():
        expected = model(TOKENS).logits
        assert close(ours(TOKENS), expected)
        assert close(merge(ours, unload=True)(TOKENS), expected)


OURS = {
    "lora": (LLAMA, LoRAConfig(r=4, alpha=8)),
    "dora": (LLAMA, LoRAConfig(r=4, alpha=8, targets=("attn.*", "mlp.down"), dora=True)),
    "rslora with ranks": (
        LLAMA,
        LoRAConfig(r=4, rslora=True, ranks={"q": 2, "0.mlp.up": 3}, alphas={"v": 1}),
    ),
    "bias of lora": (LLAMA, LoRAConfig(r=4, targets="q", bias="lora_only")),
    "all biases": (LLAMA, LoRAConfig(r=4, targets="q", bias="all")),
    "modules to save": (
        LLAMA,
        LoRAConfig(r=4, targets=("q", "v"), save=("head", "embed", "blocks.1.mlp_norm")),
    ),
    "fused qkv": (PHI3, LoRAConfig(r=4)),
    "part of a fused qkv": (PHI3, LoRAConfig(r=4, targets=("q", "v"), ranks={"v": 2}, alphas={"v": 5})),
    "part of a fused qkv with dora": (PHI3, LoRAConfig(r=4, targets=("attn.q", "mlp.up"), dora=True)),
    "interleaved qkv": (NEOX, LoRAConfig(r=4)),
    "transposed": (GPT2, LoRAConfig(r=4)),
    "latent attention": (LATENT, LoRAConfig(r=4, targets="attn.*")),
    "latent attention with dora": (LATENT, LoRAConfig(r=4, targets="attn.*", dora=True)),
    "experts": (MIXTRAL, LoRAConfig(r=4, alpha=8, targets=("q", "experts", "router"))),
    "one stack of experts": (QWEN3, LoRAConfig(r=4, targets="experts.up", ranks={"0.mlp.experts.up": 3})),
    "experts with ranks": (
        LATENT,
        LoRAConfig(r=4, targets=("kv_b", "experts"), ranks={"gate": 2}, alphas={"experts.down": 3}),
    ),
    "experts that lie transposed": (GPT_OSS, LoRAConfig(r=4, targets=("experts", "router"))),
    "experts whose inputs are weighed": (LLAMA4, LoRAConfig(r=4, targets=("experts", "shared.up"))),
    "embedding and head": (LLAMA, LoRAConfig(r=4, alpha=8, targets=("q", "embed", "head"))),
    "a tied embedding": (TIED, LoRAConfig(r=4, alpha=8, targets=("q", "embed"))),
    "a tied head": (TIED, LoRAConfig(r=4, alpha=8, targets=("q", "head"))),
}


@pytest.mark.parametrize("kind", OURS)
def test_an_adapter_written_here_gives_the_same_logits_in_peft(kind: str, tmp_path: Path) -> None:
    config, options = OURS[kind]
    base = written(config, tmp_path / "base")
    model = add_lora(load_checkpoint(tmp_path / "base", copy=True), options)
    stirred(lora_state(model).values())
    save_peft(model, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    again = load_peft(load_checkpoint(tmp_path / "base"), tmp_path / "adapter")
    with torch.inference_mode():
        expected = model(TOKENS)
        assert close(theirs(TOKENS).logits, expected)
        assert close(again(TOKENS), expected)


def test_a_trained_embedding_that_is_also_the_output_layer_goes_both_ways(tmp_path: Path) -> None:
    base = written(TIED, tmp_path / "base")
    options = LoRAConfig(r=4, targets="q", save=("embed",))
    model = add_lora(load_checkpoint(tmp_path / "base", copy=True), options)
    stirred(lora_state(model).values())
    save_peft(model, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    again = load_peft(load_checkpoint(tmp_path / "base"), tmp_path / "adapter")
    with torch.inference_mode():
        assert close(theirs(TOKENS).logits, model(TOKENS))
        assert torch.equal(again(TOKENS), model(TOKENS))


@pytest.mark.parametrize("alone", ["embed_tokens", "lm_head"])
def test_an_adapter_that_trains_shared_layers_apart_is_refused(alone: str, tmp_path: Path) -> None:
    base = written(TIED, tmp_path / "base")
    options = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=[alone], task_type="CAUSAL_LM")
    model = get_peft_model(base, options)
    stirred(p for p in model.parameters() if p.requires_grad)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdapterError, match="apart"):
        load_peft(load_checkpoint(tmp_path / "base"), tmp_path / "adapter")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model in `base` and an adapter of it in `adapter`."""
    where = tmp_path_factory.mktemp("peft")
    written(LLAMA, where / "base")
    model = add_lora(load_checkpoint(where / "base", copy=True), LoRAConfig(r=4, alpha=8, targets="q"))
    stirred(lora_state(model).values())
    save_peft(model, where / "adapter", base="some/model")
    return where


def test_the_files_name_modules_as_transformers_does(folder: Path) -> None:
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj"]
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, "some/model")
    with safe_open(folder / "adapter" / "adapter_model.safetensors", framework="pt") as file:
        assert "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight" in set(file.keys())


def test_an_adapter_can_be_read_without_a_model(folder: Path) -> None:
    config = load_checkpoint(folder / "base").config
    read = read_peft(folder / "adapter", config)
    assert sorted(read.products) == ["blocks.0.attn.q", "blocks.1.attn.q"]
    product = read.products["blocks.0.attn.q"]
    assert (product.a.shape, product.b.shape, product.scale) == ((4, 32), (32, 4), 2.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"peft_type": "IA3"}, "only LORA"),
        ({"use_qalora": True}, "use_qalora"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(
    folder: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(AdapterError, match=sentence):
        read_peft(tmp_path, load_checkpoint(folder / "base").config)


def test_missing_torn_and_foreign_files_are_named(folder: Path, tmp_path: Path) -> None:
    model = load_checkpoint(folder / "base")
    with pytest.raises(AdapterError, match=r"adapter_config\.json does not exist"):
        load_peft(model, tmp_path)
    good = (folder / "adapter" / "adapter_config.json").read_bytes()
    (tmp_path / "adapter_config.json").write_bytes(good)
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors does not exist"):
        load_peft(model, tmp_path)
    whole = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(AdapterError, match="is damaged"):
        load_peft(model, tmp_path)
    small = LlamaConfig(**{**SIZES, "hidden_size": 16}, num_key_value_heads=2, attention_bias=True)
    written(small, tmp_path / "small")
    with pytest.raises(AdapterError, match="another size"):
        load_peft(load_checkpoint(tmp_path / "small"), folder / "adapter")
    written(PHI3, tmp_path / "phi3")
    with pytest.raises(AdapterError, match="q_proj, which this model does not have"):
        load_peft(load_checkpoint(tmp_path / "phi3"), folder / "adapter")


def test_a_model_without_adapter_has_nothing_to_save(folder: Path, tmp_path: Path) -> None:
    model = load_checkpoint(folder / "base")
    assert isinstance(model, GPT)
    with pytest.raises(AdapterError, match="no adapter"):
        save_peft(model, tmp_path)


def test_an_adapter_of_single_experts_reads_as_peft_reads_it(tmp_path: Path) -> None:
    """As transformers 4 had them, where each expert was three linear layers of its own."""
    base = written(MIXTRAL, tmp_path / "base")
    sizes = {"w1": (48, 32), "w2": (32, 48), "w3": (48, 32)}
    modules = {f"experts.{e}.{name}": sizes[name] for e in range(4) for name in sizes} | {"gate": (4, 32)}
    torch.manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(2):
        for module, (out, inside) in modules.items():
            name = f"base_model.model.model.layers.{layer}.block_sparse_moe.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(3, inside) / 10
            tensors[f"{name}.lora_B.weight"] = torch.randn(out, 3) / 10
    folder = tmp_path / "adapter"
    options = LoraConfig(r=3, lora_alpha=6, target_modules=[*sizes, "gate"], task_type="CAUSAL_LM")
    options.save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors")
    theirs = PeftModel.from_pretrained(base, str(folder)).eval()
    ours = load_peft(load_checkpoint(tmp_path / "base"), folder)
    with torch.inference_mode():
        assert close(ours(TOKENS), theirs(TOKENS).logits)


def test_a_merged_embedding_comes_apart_from_the_output_layer(tmp_path: Path) -> None:
    written(TIED, tmp_path / "base")
    model = add_lora(load_checkpoint(tmp_path / "base", copy=True), LoRAConfig(r=4, targets="embed"))
    stirred(lora_state(model).values())
    with torch.inference_mode():
        before = model(TOKENS)
        assert close(merge(model)(TOKENS), before)
        assert close(merge(model, unload=True)(TOKENS), before)
    assert isinstance(model, GPT)
    save_checkpoint(model, tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.inference_mode():
        assert close(model(TOKENS), before)
        assert close(again(TOKENS).logits, before)


def test_matrices_that_no_target_parameter_explains_are_refused(tmp_path: Path) -> None:
    base = written(MIXTRAL, tmp_path / "base")
    options = LoraConfig(r=4, target_modules=[], target_parameters=BOTH, task_type="CAUSAL_LM")
    get_peft_model(base, options).save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "target_parameters": ["experts.down_proj"]}))
    with pytest.raises(AdapterError, match="none of its target_parameters explains"):
        load_peft(load_checkpoint(tmp_path / "base"), tmp_path / "adapter")
    file.write_text(json.dumps(content))
    other = MixtralConfig(**{**EXPERTS, "intermediate_size": 40}, num_local_experts=4)
    written(other, tmp_path / "other")
    with pytest.raises(AdapterError, match="another size"):
        load_peft(load_checkpoint(tmp_path / "other"), tmp_path / "adapter")
