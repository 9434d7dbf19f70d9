"""The architectures of GGUF that are read and written, as data: which family each is, and its own keys."""

from dataclasses import dataclass, field
from typing import Any

from blixt.llm.errors import ConfigError

LLAMA_KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
}
"""GGUF's key, after the architecture's name, to the key in `config.json` that most families use."""

_NO_HEAD_DIM = {ours: theirs for ours, theirs in LLAMA_KEYS.items() if theirs != "head_dim"}
_NO_WINDOW = {ours: theirs for ours, theirs in LLAMA_KEYS.items() if theirs != "sliding_window"}
_GPT2_KEYS = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "block_count": "n_layer",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
_MOE_KEYS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
_SOFTCAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}


_LOCAL_EXPERTS = {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"}
_ROUTED = {
    "leading_dense_block_count": "first_k_dense_replace",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_count": "n_routed_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_shared_count": "n_shared_experts",
    "expert_weights_scale": "routed_scaling_factor",
    "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group",
}


def _without(*theirs: str) -> dict[str, str]:
    """The usual keys but some, by their names in `config.json`."""
    return {ours: name for ours, name in LLAMA_KEYS.items() if name not in theirs}


_DEEPSEEK_KEYS = (
    _without("num_key_value_heads", "head_dim", "sliding_window")
    | _ROUTED
    | {"attention.kv_lora_rank": "kv_lora_rank", "rope.dimension_count": "qk_rope_head_dim"}
)


@dataclass(frozen=True)
class Arch:
    """One value of `general.architecture`.

    Attributes:
        model_type: The family in `config.json`.
        architectures: `config.json`'s class name.
        keys: GGUF's keys to those of `config.json`.
        fixed: What `config.json` says and GGUF takes for granted.
        pairs: Its q and k have rotary pairs side by side, where the family has them half a head apart.
        fused: q, k, v are one tensor.
        fused_mlp: Gate and up are one tensor.
        eps: The key of the norms' epsilon.
        names: Our names of a block's parts to the file's, where these differ from those of most.
        names_parallel: The same for blocks with two norms side by side.
    """

    model_type: str
    architectures: str
    keys: dict[str, str] = field(default_factory=lambda: LLAMA_KEYS)
    fixed: dict[str, Any] = field(default_factory=dict[str, Any])
    pairs: bool = False
    fused: bool = False
    fused_mlp: bool = False
    eps: str = "attention.layer_norm_rms_epsilon"
    names: dict[str, str] = field(default_factory=dict[str, str])
    names_parallel: dict[str, str] = field(default_factory=dict[str, str])


_GEMMA = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
_LAYER_EPS = "attention.layer_norm_epsilon"

ARCHS: dict[str, Arch] = {
    "llama": Arch("llama", "LlamaForCausalLM", _NO_WINDOW, pairs=True),
    "qwen2": Arch("qwen2", "Qwen2ForCausalLM"),
    "qwen2moe": Arch(
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        LLAMA_KEYS | _MOE_KEYS,
        {"decoder_sparse_step": 1, "norm_topk_prob": False},
    ),
    "qwen3": Arch("qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": Arch(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        LLAMA_KEYS | _MOE_KEYS,
        {"decoder_sparse_step": 1, "norm_topk_prob": True},
    ),
    "gemma": Arch("gemma", "GemmaForCausalLM", fixed=_GEMMA),
    "gemma2": Arch("gemma2", "Gemma2ForCausalLM", LLAMA_KEYS | _SOFTCAPS, _GEMMA),
    "gemma3": Arch("gemma3_text", "Gemma3ForCausalLM", LLAMA_KEYS | _SOFTCAPS, _GEMMA),
    "phi3": Arch("phi3", "Phi3ForCausalLM", _NO_HEAD_DIM, fused=True, fused_mlp=True),
    "olmo2": Arch("olmo2", "Olmo2ForCausalLM", _NO_HEAD_DIM),
    "smollm3": Arch("smollm3", "SmolLM3ForCausalLM", pairs=True),
    "granite": Arch(
        "granite",
        "GraniteForCausalLM",
        LLAMA_KEYS
        | {
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        pairs=True,
    ),
    "cohere2": Arch(
        "cohere2",
        "Cohere2ForCausalLM",
        LLAMA_KEYS | {_LAYER_EPS: "layer_norm_eps", "logit_scale": "logit_scale"},
        eps=_LAYER_EPS,
    ),
    "stablelm": Arch(
        "stablelm", "StableLmForCausalLM", _NO_HEAD_DIM | {_LAYER_EPS: "layer_norm_eps"}, eps=_LAYER_EPS
    ),
    "starcoder2": Arch(
        "starcoder2",
        "Starcoder2ForCausalLM",
        LLAMA_KEYS | {_LAYER_EPS: "norm_epsilon"},
        {"hidden_act": "gelu_pytorch_tanh", "use_bias": True},
        eps=_LAYER_EPS,
    ),
    "gpt2": Arch(
        "gpt2", "GPT2LMHeadModel", _GPT2_KEYS, {"activation_function": "gelu_new"}, fused=True, eps=_LAYER_EPS
    ),
    "falcon": Arch(
        "falcon",
        "FalconForCausalLM",
        _without("intermediate_size", "num_key_value_heads", "head_dim", "sliding_window", "rms_norm_eps")
        | {
            "feed_forward_length": "ffn_hidden_size",
            "attention.head_count_kv": "num_kv_heads",
            _LAYER_EPS: "layer_norm_epsilon",
        },
        {"alibi": False, "activation": "gelu"},
        fused=True,
        eps=_LAYER_EPS,
        names_parallel={"attn_norm": "attn_norm_2", "mlp_norm": "attn_norm"},
    ),
    "gptneox": Arch(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        _without("num_key_value_heads", "head_dim", "sliding_window", "rms_norm_eps")
        | {"use_parallel_residual": "use_parallel_residual", _LAYER_EPS: "layer_norm_eps"},
        {"hidden_act": "gelu"},
        fused=True,
        eps=_LAYER_EPS,
    ),
    "phi2": Arch(
        "phi",
        "PhiForCausalLM",
        _without("head_dim", "sliding_window", "rms_norm_eps") | {_LAYER_EPS: "layer_norm_eps"},
        {"hidden_act": "gelu_new"},
        eps=_LAYER_EPS,
    ),
    "chatglm": Arch("glm", "GlmForCausalLM", _NO_WINDOW, fused_mlp=True),
    "glm4": Arch("glm4", "Glm4ForCausalLM", _NO_WINDOW, fused_mlp=True),
    "glm4moe": Arch(
        "glm4_moe",
        "Glm4MoeForCausalLM",
        _without("num_hidden_layers", "sliding_window") | _ROUTED | {"expert_weights_norm": "norm_topk_prob"},
        names={"mlp_norm": "post_attention_norm"},
    ),
    "gpt-oss": Arch(
        "gpt_oss",
        "GptOssForCausalLM",
        LLAMA_KEYS | _LOCAL_EXPERTS,
        {"attention_bias": True},
        names={"mlp_norm": "post_attention_norm"},
    ),
    "llama4": Arch(
        "llama4_text",
        "Llama4ForCausalLM",
        _NO_WINDOW
        | _LOCAL_EXPERTS
        | {
            "feed_forward_length": "intermediate_size_mlp",
            "expert_feed_forward_length": "intermediate_size",
            "interleave_moe_layer_step": "interleave_moe_layer_step",
        },
        {"attention_chunk_size": 8192, "no_rope_layer_interval": 4, "attn_temperature_tuning": True},
    ),
    "deepseek2": Arch("deepseek_v2", "DeepseekV2ForCausalLM", _DEEPSEEK_KEYS),
}

DEEPSEEK_V3 = Arch("deepseek_v3", "DeepseekV3ForCausalLM", _DEEPSEEK_KEYS)

MIXTRAL = Arch("mixtral", "MixtralForCausalLM", _NO_WINDOW | _LOCAL_EXPERTS, pairs=True)
MISTRAL = Arch("mistral", "MistralForCausalLM", _NO_WINDOW, pairs=True)
_WRITTEN_AS = {arch.model_type: name for name, arch in ARCHS.items()} | {
    "mixtral": "llama",
    "mistral": "llama",
    "deepseek_v3": "deepseek2",
}
_VARIANTS = {"mixtral": MIXTRAL, "mistral": MISTRAL, "deepseek_v3": DEEPSEEK_V3}
_SIGMOID = 2


def arch_named(name: str, experts: int = 0, gating: int = 0) -> Arch:
    """The architecture of a file.

    Args:
        name: `general.architecture`.
        experts: `llama.expert_count`; a Llama with experts is a Mixtral.
        gating: `deepseek2.expert_gating_func`; with a sigmoid it is a DeepSeek V3.

    Raises:
        ConfigError: It is not one that is read.
    """
    if name == "llama" and experts:
        return MIXTRAL
    if name == "deepseek2" and gating == _SIGMOID:
        return DEEPSEEK_V3
    if name not in ARCHS:
        raise ConfigError(
            f"GGUF of general.architecture={name!r} is not read; there are {', '.join(sorted(ARCHS))}"
        )
    return ARCHS[name]


def written_as(model_type: str) -> tuple[str, Arch]:
    """The architecture that a family is written as: its name, and what there is to know of it.

    Raises:
        ConfigError: llama.cpp has none that is certain to mean the same.
    """
    if model_type not in _WRITTEN_AS:
        raise ConfigError(
            f"model_type={model_type!r} is not written as GGUF; {', '.join(sorted(_WRITTEN_AS))} are"
        )
    name = _WRITTEN_AS[model_type]
    return name, _VARIANTS.get(model_type, ARCHS[name])
