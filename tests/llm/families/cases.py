"""Tiny models of every family, as transformers' own configurations: what the parity tests are run on.

Sizes are chosen so that mistakes show: heads that do not fill the width, windows shorter than the prompts,
layers of every kind a family mixes, rope scaled at lengths that the prompts cross.
"""

from tests.llm.families.tiny import (
    DEEPSEEK,
    EXPERTS,
    FALCON,
    FULL,
    GPT2,
    LLAMA3,
    SLIDING,
    VISION,
    WINDOW,
    Case,
    longrope,
    rope,
    yarn,
)

CASES: dict[str, Case] = {
    "llama2": Case("llama", {"num_key_value_heads": 4, **rope()}),
    "llama3": Case("llama", {"rms_norm_eps": 1e-5, **rope(500_000.0)}),
    "llama31": Case("llama", LLAMA3),
    "llama32-tied": Case("llama", {"head_dim": 24, "tie_word_embeddings": True, **LLAMA3}),
    "llama-linear": Case("llama", rope(10_000.0, "linear", factor=8.0)),
    "llama-dynamic": Case("llama", {"max_position_embeddings": 16, **rope(10_000.0, "dynamic", factor=4.0)}),
    "llama-biases": Case("llama", {"attention_bias": True, "mlp_bias": True, **rope()}),
    "smollm2": Case(
        "llama",
        {
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "hidden_size": 96,
            "tie_word_embeddings": True,
            **rope(100_000.0),
        },
    ),
    "llama4": Case(
        "llama4_text",
        {
            "num_hidden_layers": 4,
            "head_dim": 16,
            "intermediate_size": 24,
            "intermediate_size_mlp": 80,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": WINDOW,
            "floor_scale": 4,
            "attn_scale": 0.3,
            **LLAMA3,
        },
    ),
    "llama4-two-experts": Case(
        "llama4_text",
        {
            "head_dim": 16,
            "intermediate_size": 24,
            "intermediate_size_mlp": 80,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "use_qk_norm": False,
            "attn_temperature_tuning": False,
            "no_rope_layers": [1, 1, 0],
            "attention_chunk_size": WINDOW,
            **rope(500_000.0),
        },
    ),
    "mistral": Case("mistral", {"sliding_window": WINDOW, **rope()}),
    "mistral-large": Case("mistral", {"sliding_window": None, "head_dim": 24, **rope(1_000_000.0)}),
    "ministral": Case(
        "ministral",
        {"sliding_window": WINDOW, "layer_types": [SLIDING, SLIDING, FULL], "head_dim": 16, **rope()},
        (5,),
    ),
    "ministral3": Case(
        "ministral3",
        {
            "head_dim": 24,
            **yarn(
                original=16,
                beta_fast=32.0,
                beta_slow=1.0,
                mscale=1.0,
                mscale_all_dim=1.0,
                llama_4_scaling_beta=0.1,
            ),
        },
        (5,),
    ),
    "mixtral": Case("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, **rope(1_000_000.0)}),
    "mixtral-window": Case(
        "mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW, **rope()}
    ),
    "gemma": Case("gemma", {"head_dim": 24, "num_key_value_heads": 1, **rope()}),
    "gemma2": Case(
        "gemma2",
        {
            "head_dim": 24,
            "num_hidden_layers": 4,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
            **rope(),
        },
    ),
    "gemma3": Case(
        "gemma3_text",
        {
            "head_dim": 24,
            "num_hidden_layers": 4,
            "sliding_window": WINDOW,
            "layer_types": [SLIDING, SLIDING, FULL, SLIDING],
            "query_pre_attn_scalar": 20,
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
    ),
    "phi2": Case("phi", {"num_key_value_heads": 4, **rope(partial_rotary_factor=0.5)}),
    "phi15-qk-norm": Case("phi", {"qk_layernorm": True, **rope(partial_rotary_factor=0.5)}),
    "phi3": Case(
        "phi3", {"num_key_value_heads": 4, "sliding_window": WINDOW, **rope(partial_rotary_factor=1.0)}
    ),
    "phi3-longrope": Case("phi3", {**longrope(8, partial_rotary_factor=1.0)}),
    "phi4": Case("phi3", {"sliding_window": None, **rope(250_000.0, partial_rotary_factor=1.0)}),
    "phi4-mini": Case(
        "phi3", {"tie_word_embeddings": True, "sliding_window": 60, **longrope(6, partial_rotary_factor=0.75)}
    ),
    "qwen2": Case("qwen2", {"tie_word_embeddings": True, **rope(1_000_000.0)}),
    "qwen25-yarn": Case("qwen2", yarn()),
    "qwen2-window": Case(
        "qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1, **rope()}
    ),
    "qwen3": Case("qwen3", {"head_dim": 24, **rope(1_000_000.0)}),
    "qwen2-moe": Case(
        "qwen2_moe",
        {
            "num_experts": 6,
            "shared_expert_intermediate_size": 40,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [1],
            **EXPERTS,
            **rope(),
        },
    ),
    "qwen3-moe": Case(
        "qwen3_moe",
        {
            "num_experts": 8,
            "head_dim": 24,
            "norm_topk_prob": True,
            "decoder_sparse_step": 2,
            **EXPERTS,
            **rope(1_000_000.0),
        },
    ),
    "smollm3": Case("smollm3", {"num_hidden_layers": 5, **rope(2_000_000.0)}),
    "smollm3-window": Case(
        "smollm3", {"num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": WINDOW, **rope()}
    ),
    "olmo": Case("olmo", {"clip_qkv": 0.4, "num_key_value_heads": 4, **rope()}),
    "olmo2": Case("olmo2", {"num_key_value_heads": 4, **rope(500_000.0)}),
    "olmo2-grouped": Case("olmo2", rope(500_000.0)),
    "olmo3": Case(
        "olmo3",
        {
            "num_hidden_layers": 4,
            "sliding_window": WINDOW,
            "rope_parameters": {
                FULL: {
                    "rope_type": "yarn",
                    "rope_theta": 500_000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 16,
                    "attention_factor": 1.2,
                    "beta_fast": 32.0,
                    "beta_slow": 1.0,
                },
                SLIDING: {"rope_type": "default", "rope_theta": 500_000.0},
            },
        },
        (5,),
    ),
    "falcon-7b": Case("falcon", {**FALCON, "multi_query": True, "parallel_attn": True, **rope()}),
    "falcon-40b": Case(
        "falcon", {**FALCON, "num_kv_heads": 2, "new_decoder_architecture": True, "bias": False, **rope()}
    ),
    "falcon-one-norm": Case(
        "falcon",
        {
            **FALCON,
            "num_kv_heads": 2,
            "new_decoder_architecture": True,
            "num_ln_in_parallel_attn": 1,
            **rope(),
        },
    ),
    "falcon-sequential": Case(
        "falcon", {**FALCON, "multi_query": False, "parallel_attn": False, "bias": True, **rope()}
    ),
    "falcon3": Case("llama", {"head_dim": 16, **rope(1_000_042.0)}),
    "pythia": Case("gpt_neox", {"num_key_value_heads": None, **rope(partial_rotary_factor=0.25)}),
    "neox-sequential": Case(
        "gpt_neox",
        {
            "num_key_value_heads": None,
            "use_parallel_residual": False,
            "hidden_act": "gelu_new",
            **rope(partial_rotary_factor=0.5),
        },
    ),
    "gpt2": Case("gpt2", GPT2),
    "gpt2-layer-scale": Case("gpt2", {**GPT2, "scale_attn_by_inverse_layer_idx": True, "n_inner": None}),
    "stablelm": Case("stablelm", {"num_key_value_heads": 4, **rope(partial_rotary_factor=0.25)}),
    "stablelm2-12b": Case(
        "stablelm",
        {
            "qk_layernorm": True,
            "use_parallel_residual": True,
            "use_qkv_bias": True,
            **rope(partial_rotary_factor=0.25),
        },
        (5,),  # transformers 4 cannot initialise its norms without bias
    ),
    "starcoder2": Case("starcoder2", {"sliding_window": WINDOW, **rope(100_000.0)}),
    "granite": Case(
        "granite",
        {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.3,
            "attention_multiplier": 0.2,
            "logits_scaling": 4.0,
            "tie_word_embeddings": True,
            **rope(),
        },
    ),
    "cohere": Case("cohere", {"use_qk_norm": True, "logit_scale": 0.25, **rope()}),
    "cohere2": Case(
        "cohere2", {"num_hidden_layers": 4, "sliding_window": WINDOW, "logit_scale": 0.25, **rope(50_000.0)}
    ),
    "glm": Case("glm", {"head_dim": 24, **rope(partial_rotary_factor=0.5)}),
    "glm4": Case("glm4", {"head_dim": 24, **rope(partial_rotary_factor=0.5)}),
    "glm4-moe": Case(
        "glm4_moe",
        {
            "head_dim": 24,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "routed_scaling_factor": 1.5,
            "use_qk_norm": True,
            "attention_bias": True,
            **EXPERTS,
            **rope(partial_rotary_factor=0.5),
        },
    ),
    "deepseek-v2": Case(
        "deepseek_v2",
        {**DEEPSEEK, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, **rope()},
    ),
    "deepseek-v2-lite": Case(
        "deepseek_v2", {**DEEPSEEK, "q_lora_rank": None, "topk_method": "greedy", **rope()}
    ),
    "deepseek-v2-yarn": Case(
        "deepseek_v2",
        {
            **DEEPSEEK,
            "topk_method": "greedy",
            **yarn(mscale=0.707, mscale_all_dim=0.707, beta_fast=32, beta_slow=1),
        },
        (5,),
    ),
    "deepseek-v3": Case("deepseek_v3", {**DEEPSEEK, "n_group": 4, "topk_group": 2, **rope()}),
    "deepseek-v3-yarn": Case(
        "deepseek_v3",
        {
            **DEEPSEEK,
            "n_group": 2,
            "topk_group": 1,
            "rope_interleave": True,
            **yarn(mscale=1.0, mscale_all_dim=1.0, beta_fast=32, beta_slow=1),
        },
    ),
    "gpt-oss": Case(
        "gpt_oss",
        {
            "head_dim": 16,
            "num_hidden_layers": 4,
            "intermediate_size": 32,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "sliding_window": WINDOW,
            **yarn(truncate=False, beta_fast=32.0, beta_slow=1.0),
        },
    ),
    "nanochat": Case("nanochat", {"final_logit_softcapping": 3.0, "rms_norm_eps": 1e-6, **rope()}, (5,)),
    "arcee": Case("arcee", {"hidden_act": "relu2", "head_dim": 24, **yarn()}),
    "seed-oss": Case("seed_oss", {"head_dim": 24, **rope(10_000_000.0)}),
    "gemma3-wrapped": Case(
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": WINDOW,
            "layer_types": [SLIDING, FULL, SLIDING],
            "query_pre_attn_scalar": 16,
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
        wrapped={
            "model_type": "gemma3",
            "mm_tokens_per_image": 4,
            "image_token_index": 90,
            "boi_token_index": 91,
            "eoi_token_index": 92,
            "vision_config": {**VISION, "model_type": "siglip_vision_model"},
        },
    ),
    "mistral3-wrapped": Case(
        "mistral",
        {"head_dim": 24, "sliding_window": None, **rope(1_000_000.0)},
        wrapped={
            "model_type": "mistral3",
            "image_token_index": 90,
            "tie_word_embeddings": False,
            "vision_config": {**VISION, "head_dim": 16, "model_type": "pixtral"},
        },
    ),
    "llama4-wrapped": Case(
        "llama4_text",
        {
            "head_dim": 16,
            "intermediate_size": 24,
            "intermediate_size_mlp": 80,
            "num_local_experts": 4,
            "attention_chunk_size": WINDOW,
            "interleave_moe_layer_step": 1,
            **LLAMA3,
        },
        wrapped={
            "model_type": "llama4",
            "image_token_index": 90,
            "boi_token_index": 91,
            "eoi_token_index": 92,
            "vision_config": {
                **VISION,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
                "model_type": "llama4_vision_model",
            },
        },
    ),
}


def cases_of(version: int) -> list[str]:
    """Names of the cases that a major version of transformers serves as the reference for."""
    return [name for name, case in CASES.items() if version in case.versions]
