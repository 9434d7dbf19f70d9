"""Sliding windows: does a layer that sees less cost less? blixt, litgpt, transformers, interleaved.

Six layers of width 384, one sequence of 2,048 tokens, window 256 against full attention: a forward pass, and
a forward and backward pass. The windowed models compute the same numbers, which is checked.

    python -m benchmarks.llm.windows [--rounds 5] [--out FILE]
"""

from typing import Any

import torch
from benchmarks.llm._measure import Run, compare, options, show, write
from litgpt.config import Config
from litgpt.model import GPT as LitGPT
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM

from blixt.llm.config import LayerSpec, ModelConfig, RopeSpec
from blixt.llm.model import GPT

VOCAB, D, LAYERS, HEADS, GROUPS, D_FF, COUNT, WINDOW = 512, 384, 6, 6, 2, 1024, 2048, 256


def ours(window: int) -> GPT:
    """blixt's model with a window in every layer, or in none."""
    spec = LayerSpec(attn="sliding" if window else "full", window=window, rope=RopeSpec())
    return GPT(
        ModelConfig(
            vocab=VOCAB,
            d=D,
            layers=LAYERS,
            heads=HEADS,
            kv_heads=GROUPS,
            d_ff=D_FF,
            context=COUNT,
            tie=False,
            layer_specs=(spec,) * LAYERS,
        )
    )


def transformers(window: int) -> nn.Module:
    """transformers' Mistral, whose window is in every layer."""
    config = MistralConfig(
        vocab_size=VOCAB,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        intermediate_size=D_FF,
        max_position_embeddings=COUNT,
        sliding_window=window or None,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        attn_implementation="sdpa",
    )
    return MistralForCausalLM(config)


def litgpts(window: int) -> nn.Module:
    """litgpt's model."""
    return LitGPT(
        Config(
            padded_vocab_size=VOCAB,
            vocab_size=VOCAB,
            n_embd=D,
            n_layer=LAYERS,
            n_head=HEADS,
            n_query_groups=GROUPS,
            intermediate_size=D_FF,
            block_size=COUNT,
            mlp_class_name="LLaMAMLP",
            norm_class_name="RMSNorm",
            bias=False,
            parallel_residual=False,
            rotary_percentage=1.0,
            sliding_window_size=window or None,
            sliding_window_indices=[1] * LAYERS if window else None,
        )
    )


def copy_from(model: GPT, theirs: nn.Module) -> None:
    """Give transformers' model our weights."""
    state = model.state_dict()
    names = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    inner = {
        "attn_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "attn.q": "self_attn.q_proj",
        "attn.k": "self_attn.k_proj",
        "attn.v": "self_attn.v_proj",
        "attn.out": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    }
    for layer in range(LAYERS):
        names |= {f"blocks.{layer}.{a}": f"model.layers.{layer}.{b}" for a, b in inner.items()}
    theirs.load_state_dict({f"{b}.weight": state[f"{a}.weight"] for a, b in names.items()})


def logits(model: nn.Module, tokens: Tensor) -> Tensor:
    """Logits of any of them."""
    out: Any = model(tokens)
    return out if isinstance(out, Tensor) else out.logits


def runs(models: dict[str, nn.Module], tokens: Tensor, backward: bool) -> dict[str, Run]:
    """What is timed: a forward pass, with gradients or without."""

    def run(model: nn.Module) -> Run:
        def once() -> object:
            if not backward:
                with torch.no_grad():
                    return logits(model, tokens)
            model.zero_grad()
            return logits(model, tokens).float().logsumexp(-1).mean().backward()

        return once

    return {name: run(model) for name, model in models.items()}


def main() -> None:
    arguments = options("windows", 5, __doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokens = torch.randint(0, VOCAB, (1, COUNT))
    models: dict[str, nn.Module] = {
        "blixt, full": ours(0),
        "blixt, window 256": ours(WINDOW),
        "litgpt, full": litgpts(0),
        "litgpt, window 256": litgpts(WINDOW),
        "transformers, full": transformers(0),
        "transformers, window 256": transformers(WINDOW),
    }
    for kind in ("full", "window 256"):
        copy_from(models[f"blixt, {kind}"], models[f"transformers, {kind}"])  # type: ignore[arg-type]
        with torch.no_grad():
            torch.testing.assert_close(
                logits(models[f"blixt, {kind}"], tokens),
                logits(models[f"transformers, {kind}"], tokens),
                rtol=1e-3,
                atol=1e-3,
            )
    results: dict[str, Any] = {}
    for name, backward in (("forward", False), ("forward and backward", True)):
        results[name] = compare(runs(models, tokens, backward), arguments.rounds)
        show(name, results[name])
    write(arguments.out, arguments.rounds, results)


if __name__ == "__main__":
    main()
