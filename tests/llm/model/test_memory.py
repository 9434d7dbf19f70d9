"""No context makes anything of size T x T, forwards or backwards, and very long ones run."""

import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from blixt.llm.attention import Cached, Causal, Packed
from blixt.llm.cache import KVCache
from blixt.llm.config import LayerSpec, MLASpec, ModelConfig, RopeSpec
from blixt.llm.model import GPT

COUNT = 4096
FULL, SLIDING = LayerSpec(rope=RopeSpec()), LayerSpec(attn="sliding", window=100, rope=RopeSpec())
CHUNKED = LayerSpec(attn="chunked", window=100, rope=RopeSpec())


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else (out,):
            if isinstance(part, Tensor):
                self.count = max(self.count, part.untyped_storage().nbytes() // part.element_size())
        return out


def tiny(spec: LayerSpec, **changes: Any) -> GPT:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d": 16, "layers": 1, "heads": 2, "kv_heads": 1, "d_ff": 32, "context": COUNT}
    return GPT(ModelConfig(vocab=16, layer_specs=(spec,), **(sizes | changes)))


@pytest.mark.parametrize("spec", [FULL, SLIDING, CHUNKED], ids=["full", "sliding", "chunked"])
@pytest.mark.parametrize(
    "extras", [{}, {"softcap_attn": 5.0}, {"sinks": True}], ids=["plain", "softcap", "sinks"]
)
@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
def test_a_training_step_makes_nothing_of_size_t_by_t(
    spec: LayerSpec, extras: dict[str, Any], packed: bool
) -> None:
    model = tiny(spec, **extras)
    tokens = torch.randint(0, 16, (1, COUNT))
    documents = (torch.arange(COUNT) > 500).long()[None]
    with Largest() as largest:
        model(tokens, Packed(documents) if packed else Causal(tokens)).square().mean().backward()
    assert largest.count < COUNT * COUNT // 16


@pytest.mark.parametrize("spec", [FULL, SLIDING, CHUNKED], ids=["full", "sliding", "chunked"])
@torch.no_grad()
def test_a_prompt_in_parts_makes_nothing_of_size_t_by_t(spec: LayerSpec) -> None:
    model = tiny(spec)
    cache = KVCache(model.config, 1, model.embed.weight)
    with Largest() as largest:
        for part in torch.randint(0, 16, (1, COUNT)).split(1024, dim=1):
            model(part, Cached(cache, part))
    assert largest.count < COUNT * COUNT // 16


@pytest.mark.parametrize("spec", [SLIDING, CHUNKED], ids=["sliding", "chunked"])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_a_context_of_131072_tokens_needs_little_memory(spec: LayerSpec, softcap: float) -> None:
    count = 131_072
    model = tiny(spec, context=count, softcap_attn=softcap)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.hidden(torch.randint(0, 16, (1, count))).sum().backward()
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 1024  # a mask of bytes alone would be 16 GiB


def test_a_ring_keeps_a_windows_tokens_only() -> None:
    config = tiny(SLIDING, context=10_000).config
    keys, values = KVCache(config, 3, torch.zeros(1)).buffers(0)
    assert keys.shape == values.shape == (3, 1, 100, 8)


def test_latent_attention_caches_the_latent_and_the_turned_key_only() -> None:
    mla = MLASpec(kv_rank=32, rope_dim=8, nope_dim=16, v_dim=12)
    model = tiny(LayerSpec(attn="mla", rope=RopeSpec()), kv_heads=2, mla=mla)
    keys, values = KVCache(model.config, 1, model.embed.weight, length=7).buffers(0)
    assert keys.shape == (1, 1, 7, 32 + 8)
    assert values.untyped_storage().data_ptr() == keys.untyped_storage().data_ptr()


def measure(run: Callable[[], object]) -> int:
    with Largest() as largest:
        run()
    return largest.count


@torch.no_grad()
def test_grouped_queries_never_repeat_keys_over_the_cache() -> None:
    """Decoding one token after 4,000: nothing larger than the cache itself is made."""
    model = tiny(FULL, heads=8, kv_heads=1, head_dim=32)
    cache = KVCache(model.config, 1, model.embed.weight)
    model(torch.randint(0, 16, (1, COUNT - 1)), cache)
    buffer = cache.buffers(0)[0].numel()
    assert measure(lambda: model(torch.tensor([[3]]), cache)) <= buffer
