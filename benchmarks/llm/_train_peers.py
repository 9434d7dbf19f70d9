"""One small Llama with the same weights in blixt, litgpt and transformers, to train."""

from typing import Any

import torch
from litgpt.config import Config as LitConfig
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from transformers import LlamaConfig, LlamaForCausalLM

from blixt.llm.config import ModelConfig
from blixt.llm.families import family_of
from blixt.llm.model import GPT
from blixt.llm.weights.rules import apply

CONFIG = ModelConfig(
    vocab=8192, d=384, layers=6, heads=6, kv_heads=6, d_ff=1024, context=256, norm_eps=1e-5, tie=False
)
"""16.9 million parameters."""


def in_transformers() -> LlamaForCausalLM:
    """transformers' model, which the others take their weights from."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**CONFIG.to_hf())).float().train()


def in_blixt(hf: LlamaForCausalLM) -> GPT:
    """Ours, by the family's weight rules."""
    state = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    model = GPT.empty(CONFIG, "cpu")
    model.load_state_dict(apply(family_of("llama").rules(CONFIG), state, CONFIG))
    return model.train()


def litgpt_config(kind: type[LitConfig] = LitConfig, **more: Any) -> LitConfig:
    """litgpt's description of the model."""
    return kind(
        name="bench",
        n_layer=CONFIG.layers,
        n_embd=CONFIG.d,
        n_head=CONFIG.heads,
        n_query_groups=CONFIG.kv_heads,
        block_size=CONFIG.context,
        vocab_size=CONFIG.vocab,
        padded_vocab_size=CONFIG.vocab,
        intermediate_size=CONFIG.d_ff,
        norm_class_name="RMSNorm",
        norm_eps=CONFIG.norm_eps,
        mlp_class_name="LLaMAMLP",
        bias=False,
        parallel_residual=False,
        rotary_percentage=1.0,
        **more,
    )


def litgpt_state(hf: LlamaForCausalLM, config: LitConfig) -> dict[str, torch.Tensor]:
    """The weights under litgpt's names, by its own converter."""
    state: dict[str, torch.Tensor] = {}
    weights = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    copy_weights_hf_llama(config, {}, state, weights)
    return state
