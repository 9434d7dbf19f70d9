"""The whole model in every context: causal, cached, packed, compiled; what a token may and may not change."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from blixt.llm.attention import Cached, Causal, Packed
from blixt.llm.cache import KVCache
from blixt.llm.config import LayerSpec, MLASpec, ModelConfig, MoESpec, RopeSpec, Temperature
from blixt.llm.errors import PromptError
from blixt.llm.model import GPT

ROPE = RopeSpec()
SLIDING = LayerSpec(attn="sliding", window=8, rope=ROPE)
SIZES: dict[str, Any] = {"vocab": 61, "d": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context": 200}
KINDS: dict[str, ModelConfig] = {
    "llama": ModelConfig(**SIZES),
    "gemma 2": ModelConfig(
        **SIZES,
        norm_offset=1.0,
        norm_place="sandwich",
        softcap_attn=5.0,
        softcap_logits=3.0,
        embed_scale=5.7,
        act="gelu_tanh",
        layer_specs=(SLIDING, LayerSpec(rope=RopeSpec(base=1e6))),
    ),
    "gpt-oss": ModelConfig(
        **SIZES,
        sinks=True,
        qkv_bias=True,
        out_bias=True,
        moe=MoESpec(4, 2, 16, score="softmax_topk", router_bias=True, expert_bias=True, act="swiglu_clamped"),
        layer_specs=(replace(SLIDING, mlp="moe"), LayerSpec(mlp="moe", rope=ROPE)),
    ),
    "sinks": ModelConfig(**SIZES, sinks=True, layer_specs=(SLIDING, LayerSpec(rope=ROPE))),
    "llama 4": ModelConfig(
        **SIZES,
        qk_norm="head",
        qk_norm_kind="rms_bare",
        qk_norm_late=True,
        moe=MoESpec(4, 1, 16, score="sigmoid", normalise=False, weigh_input=True, shared_d_ff=16),
        layer_specs=(
            LayerSpec(attn="chunked", window=8, rope=RopeSpec(interleaved=True), mlp="moe"),
            LayerSpec(qk_norm=False, temperature=Temperature(0.1, 4, 1)),
        ),
    ),
    "deepseek": ModelConfig(
        **SIZES | {"kv_heads": 4},
        mla=MLASpec(kv_rank=16, rope_dim=8, nope_dim=12, v_dim=10, q_rank=20),
        rope=RopeSpec(interleaved=True),
    ),
    "gpt-2": ModelConfig(
        **SIZES, position="learned", norm="layer", mlp="plain", qkv_bias=True, mlp_bias=True
    ),
    "olmo 2": ModelConfig(**SIZES, norm_place="post", qk_norm="full"),
    "phi": ModelConfig(**SIZES, norm_place="parallel_shared", rope=RopeSpec(dim=4), norm="layer"),
    "pythia": ModelConfig(**SIZES, norm_place="parallel", mlp="plain", act="gelu"),
    "nanochat": ModelConfig(
        **SIZES,
        norm="rms_bare",
        embed_norm=True,
        mlp="plain",
        act="relu2",
        qk_norm="head",
        qk_norm_late=True,
        layer_specs=(LayerSpec(rope=RopeSpec(reverse=True), mlp="plain", value_embed=True),) * 2,
    ),
}
COUNT = 30


def make(kind: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(KINDS[kind]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


def some_tokens(rows: int = 2) -> Tensor:
    return torch.randint(0, 61, (rows, COUNT), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_later_token_never_changes_an_earlier_logit(kind: str) -> None:
    model, tokens = make(kind), some_tokens()
    changed = tokens.clone()
    changed[:, 20] = (changed[:, 20] + 1) % 61
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20], rtol=0, atol=2e-6)
    assert not torch.allclose(before[:, 20], after[:, 20])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [[COUNT], [1] * COUNT, [3, 1, 12, 14], [COUNT - 1, 1]], ids=str)
@torch.no_grad()
def test_cached_in_any_pieces_equals_the_whole(kind: str, pieces: list[int]) -> None:
    """Windows are 8: the first piece is shorter, longer or much longer than that."""
    model, tokens = make(kind), some_tokens()
    cache = KVCache(model.config, 2, model.embed.weight, length=COUNT)
    parts = [model(part, cache) for part in tokens.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padded_rows_of_unequal_length_equal_each_alone(kind: str) -> None:
    model, tokens = make(kind), some_tokens()
    cache = KVCache(model.config, 2, model.embed.weight)
    first = model(tokens[:, :20], Cached(cache, tokens[:, :20], counts=[20, 9]))
    new = torch.stack((tokens[0, 20:25], tokens[1, 9:14]))
    second = model(new, Cached(cache, new))
    whole = model(tokens)
    torch.testing.assert_close(first[1, :9], whole[1, :9], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(second[0], whole[0, 20:25], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(second[1], whole[1, 9:14], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_equal_each_alone_with_their_gradients(kind: str) -> None:
    model, tokens = make(kind), some_tokens(1)
    sizes = [9, 1, 20]
    documents = torch.arange(3).repeat_interleave(torch.tensor(sizes))[None]
    packed = model(tokens, Packed(documents))
    apart = torch.cat([model(part) for part in tokens.split(sizes, dim=1)], dim=1)
    torch.testing.assert_close(packed, apart, rtol=1e-4, atol=2e-5)
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(packed.square().mean(), leaves)
    theirs = torch.autograd.grad(apart.square().mean(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_flat_tokens_equal_rows(kind: str) -> None:
    model, tokens = make(kind), some_tokens()
    flat = model(tokens.flatten(), Packed.from_bounds([0, COUNT, 2 * COUNT]))
    torch.testing.assert_close(flat.view(2, COUNT, -1), model(tokens), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["gemma 2", "deepseek", "sinks"])
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    model, tokens = make(kind).double(), some_tokens(1)

    def loss() -> Tensor:
        return model(tokens, Causal(tokens)).square().mean()

    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        (grad,) = torch.autograd.grad(loss(), parameter)
        way = torch.randn(parameter.shape, dtype=torch.float64)
        with torch.no_grad():
            parameter += 1e-6 * way
            up = loss()
            parameter -= 2e-6 * way
            down = loss()
            parameter += 1e-6 * way
        slope = ((up - down) / 2e-6).item()
        assert (grad * way).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_to_half_precision_trains_and_stays_close(kind: str) -> None:
    model, tokens = make(kind), some_tokens()
    with torch.autocast("cpu", torch.bfloat16):
        got = model(tokens)
    wanted = model(tokens)
    assert (got.float() - wanted).norm() < 0.1 * wanted.norm()
    got.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_every_parameter_gets_a_gradient_but_the_routers_correction() -> None:
    torch.manual_seed(0)
    moe = MoESpec(4, 4, 8, score="sigmoid", correction=True, shared_d_ff=8, shared_gate=True)
    model = GPT(ModelConfig(**SIZES, moe=moe, tie=False, head_bias=True, mlp_bias=True))
    model(some_tokens()).square().mean().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == ["blocks.0.mlp.router.correction", "blocks.1.mlp.router.correction"]


@pytest.mark.parametrize("kind", ["llama", "gpt-oss"])
def test_a_compiled_block_computes_the_same(kind: str) -> None:
    model, tokens = make(kind), some_tokens()
    wanted = model(tokens)
    wanted.square().mean().backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    for block in model.blocks:
        block.compile(backend="aot_eager")
    got = model(tokens)
    got.square().mean().backward()
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=1e-3, atol=1e-5)


def test_compiled_blocks_take_other_documents_without_being_compiled_anew() -> None:
    model, tokens = make("gemma 2"), some_tokens(1)
    for block in model.blocks:
        block.compile(backend="aot_eager")
    for first in (9, 12):  # the second time, numbers that change are known to
        model(tokens, Packed(_documents(first)))
    with torch.compiler.set_stance("fail_on_recompile"):
        for starts in ((7, 8), (1, 20), (3, 29)):
            documents = sum((_documents(start) for start in starts), torch.zeros(1, COUNT, dtype=torch.long))
            model(tokens, Packed(documents))


def test_more_tokens_than_the_cache_holds_are_refused_with_both_numbers() -> None:
    model = make("llama")
    cache = KVCache(model.config, 1, model.embed.weight, length=4)
    with pytest.raises(PromptError, match="5 tokens do not fit the cache of 4"):
        model(torch.zeros(1, 5, dtype=torch.long), cache)


@pytest.mark.parametrize(("kind", "again"), [("longrope", False), ("dynamic", True)])
@torch.no_grad()
def test_a_cache_is_refused_where_the_rotation_of_its_keys_would_change(kind: Any, again: bool) -> None:
    """longrope changes once, at the original context; dynamic with every token after it."""
    pairs = (1.0,) * 4
    rope = RopeSpec(kind=kind, factor=2.0, original_context=10, short_factors=pairs, long_factors=pairs)
    model = GPT(ModelConfig(**SIZES, rope=rope))
    cache = KVCache(model.config, 1, model.embed.weight)
    model(torch.zeros(1, 10, dtype=torch.long), cache)
    with pytest.raises(PromptError, match="grows over 10 tokens"):
        model(torch.zeros(1, 1, dtype=torch.long), cache)
    cache = KVCache(model.config, 1, model.embed.weight)
    model(torch.zeros(1, 11, dtype=torch.long), cache)
    if again:
        with pytest.raises(PromptError, match="grows over 10 tokens"):
            model(torch.zeros(1, 1, dtype=torch.long), cache)
    else:
        model(torch.zeros(1, 1, dtype=torch.long), cache)


@torch.no_grad()
def test_longrope_takes_the_long_factors_for_long_documents_only() -> None:
    rope = RopeSpec(
        kind="longrope", original_context=10, factor=2.0, short_factors=(1.0,) * 4, long_factors=(3.0,) * 4
    )
    model = GPT(ModelConfig(**SIZES, rope=rope))
    tokens = some_tokens(1)
    packed = model(tokens, Packed(_documents(8)))
    torch.testing.assert_close(packed[:, :8], model(tokens[:, :8]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed[:, 8:], model(tokens[:, 8:]), rtol=1e-4, atol=1e-5)


def _documents(first: int) -> Tensor:
    return (torch.arange(COUNT) >= first).long()[None]
