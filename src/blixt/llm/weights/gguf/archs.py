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
    """

    model_type: str
    architectures: str
    keys: dict[str, str] = field(default_factory=lambda: LLAMA_KEYS)
    fixed: dict[str, Any] = field(default_factory=dict[str, Any])
    pairs: bool = False
    fused: bool = False
    fused_mlp: bool = False
    eps: str = "attention.layer_norm_rms_epsilon"


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
}

MIXTRAL = Arch(
    "mixtral",
    "MixtralForCausalLM",
    _NO_WINDOW | {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
    pairs=True,
)
MISTRAL = Arch("mistral", "MistralForCausalLM", _NO_WINDOW, pairs=True)
_WRITTEN_AS = {arch.model_type: name for name, arch in ARCHS.items()} | {
    "mixtral": "llama",
    "mistral": "llama",
}


def arch_named(name: str, experts: int = 0) -> Arch:
    """The architecture of a file.

    Args:
        name: `general.architecture`.
        experts: `llama.expert_count`; a Llama with experts is a Mixtral.

    Raises:
        ConfigError: It is not one that is read.
    """
    if name == "llama" and experts:
        return MIXTRAL
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
    return name, {"mixtral": MIXTRAL, "mistral": MISTRAL}.get(model_type, ARCHS[name])
