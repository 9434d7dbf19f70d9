"""One request alone: greedy decoding, blixt against litgpt and transformers, interleaved, identical tokens.

The model has the shape of SmolLM2-135M (30 layers, width 576, 49,152 tokens) with fresh weights, in float32:
a prompt of 32 tokens, 32 new ones. "KVCache" is the bare model with a dense cache, "Engine" the serving
engine with its paged cache.

    python -m benchmarks.llm.decode [--rounds 5] [--out FILE]
"""

from typing import Any

import torch
from benchmarks.llm._measure import Run, compare, options, show, write
from litgpt.config import Config
from litgpt.generate.base import generate as litgpt_generate
from litgpt.model import GPT as LitGPT
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from blixt.llm.cache import KVCache
from blixt.llm.config import ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling

CONFIG = ModelConfig(
    vocab=49152, d=576, layers=30, heads=9, kv_heads=3, d_ff=1536, context=512, rope_base=100_000.0, tie=True
)
PROMPT, NEW = 32, 32


def ours() -> GPT:
    """Fresh weights, larger than usual so that one token is likeliest by far."""
    torch.manual_seed(0)
    model = GPT(CONFIG).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and name != "embed.weight":
            parameter.mul_(4)
    return model


def transformers(model: GPT) -> LlamaForCausalLM:
    """transformers' Llama with the same weights."""
    other = LlamaForCausalLM(LlamaConfig(**CONFIG.to_hf()))
    names = {"embed": "model.embed_tokens", "norm": "model.norm"}
    inner = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    inner |= {f"attn.{a}": f"self_attn.{a}_proj" for a in "qkv"} | {"attn.out": "self_attn.o_proj"}
    inner |= {f"mlp.{a}": f"mlp.{a}_proj" for a in ("gate", "up", "down")}
    for layer in range(CONFIG.layers):
        names |= {f"blocks.{layer}.{a}": f"model.layers.{layer}.{b}" for a, b in inner.items()}
    state = model.state_dict()
    other.load_state_dict({f"{b}.weight": state[f"{a}.weight"] for a, b in names.items()}, strict=False)
    return other.eval()


def litgpts(hf: LlamaForCausalLM) -> LitGPT:
    """litgpt's model with the same weights, through its own converter."""
    config: Any = Config.from_name("SmolLM2-135M", block_size=CONFIG.context, norm_eps=CONFIG.norm_eps)
    other: Any = LitGPT(config)
    state: dict[str, Any] = {}
    weights: dict[str, Any] = {
        name: tensor for name, tensor in hf.state_dict().items() if "rotary" not in name
    }
    copy_weights_hf_llama(config, {}, state, weights)
    other.load_state_dict(state, strict=False)
    other.lm_head.weight = other.transformer.wte.weight
    return other.eval()


def with_cache(model: GPT, prompt: torch.Tensor) -> list[int]:
    """The bare model and a dense cache."""
    cache = KVCache(CONFIG, batch=1, like=model.embed.weight, length=PROMPT + NEW)
    tokens, out = prompt, list[int]()
    for _ in range(NEW):
        token = int(model.logits(model.hidden(tokens, cache)[:, -1]).argmax())
        out.append(token)
        tokens = torch.tensor([[token]])
    return out


def with_engine(engine: Engine, prompt: torch.Tensor) -> list[int]:
    """The serving engine with one request."""
    engine.add(prompt[0].tolist(), Sampling(temperature=0, max_tokens=NEW, ignore_eos=True))
    out: list[int] = []
    while engine.has_work:
        for update in engine.step():
            out.extend(update.tokens)
    return out


def with_litgpt(model: Any, prompt: torch.Tensor) -> list[int]:
    """litgpt's own loop, its cache cleared and sized for each call as its command does."""
    model.max_seq_length = PROMPT + NEW
    model.set_kv_cache(batch_size=1)
    out = litgpt_generate(model, prompt[0], PROMPT + NEW, temperature=0.0, include_prompt=False)
    return out.tolist()


def with_transformers(model: Any, prompt: torch.Tensor) -> list[int]:
    """transformers' generate."""
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
    )
    return out[0, PROMPT:].tolist()


@torch.inference_mode()
def main() -> None:
    arguments = options("decode", 5, __doc__)
    torch.set_num_threads(1)
    model = ours()
    hf = transformers(model)
    lit: nn.Module = litgpts(hf)
    engine_model = ours()  # the engine stores weights in the order a CPU decodes fastest
    engine = Engine(engine_model, None, EngineConfig(max_batch=1, prefix_cache=False))
    prompt = torch.randint(0, CONFIG.vocab, (1, PROMPT), generator=torch.Generator().manual_seed(1))
    makers: dict[str, Any] = {
        "blixt, Engine": lambda: with_engine(engine, prompt),
        "blixt, KVCache": lambda: with_cache(model, prompt),
        "litgpt": lambda: with_litgpt(lit, prompt),
        "transformers": lambda: with_transformers(hf, prompt),
    }
    wanted = with_transformers(hf, prompt)
    for name, make in makers.items():
        if make() != wanted:
            raise SystemExit(f"{name} generated other tokens than transformers")
    runs: dict[str, Run] = dict(makers)
    results = compare(runs, arguments.rounds)
    show(f"{PROMPT} + {NEW} tokens", results)
    for row in results.values():
        row["tokens_per_cpu_s"] = NEW / row["median_ms"] * 1e3
    write(arguments.out, arguments.rounds, results)


if __name__ == "__main__":
    main()
