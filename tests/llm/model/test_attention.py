"""Every context against attention by the book, forwards and backwards."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blixt.llm.attention import (
    Cached,
    Causal,
    Packed,
    attend_reference,
    interval_attention,
    intervals,
    reference_mask,
)
from blixt.llm.cache import KVCache
from blixt.llm.config import LayerSpec, ModelConfig

HEADS, GROUPS, WIDTH = 4, 2, 8
SPECS = st.one_of(
    st.just(LayerSpec()),
    st.builds(LayerSpec, attn=st.sampled_from(["sliding", "chunked"]), window=st.integers(1, 90)),
)
EXTRAS = st.fixed_dictionaries(
    {
        "softcap": st.sampled_from([0.0, 3.0]),
        "sinks": st.sampled_from([None, torch.tensor([0.5, -1.0, 2.0, 0.0])]),
    }
)


def heads(rows: int, count: int, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(rows * 1000 + count)
    sizes = ((HEADS, WIDTH), (GROUPS, WIDTH), (GROUPS, width))
    return tuple(torch.randn(rows, count, *size, requires_grad=True) for size in sizes)  # type: ignore[return-value]


def agree(
    inputs: tuple[Tensor, Tensor, Tensor], got: Tensor, wanted: Tensor, sinks: Tensor | None = None
) -> None:
    """Both outputs and all gradients of a random weighing of them are equal."""
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    weight = torch.randn(got.shape, generator=torch.Generator().manual_seed(0))
    leaves = [*inputs, *([sinks] if sinks is not None else [])]
    ours = torch.autograd.grad(got, leaves, weight)
    theirs = torch.autograd.grad(wanted, leaves, weight)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def leaf(extras: dict[str, Any]) -> dict[str, Any]:
    sinks = extras["sinks"]
    return extras | {"sinks": None if sinks is None else sinks.clone().requires_grad_()}


@settings(max_examples=40, deadline=None)
@given(spec=SPECS, extras=EXTRAS, rows=st.integers(1, 2), count=st.integers(1, 300))
def test_whole_sequences(spec: LayerSpec, extras: dict[str, Any], rows: int, count: int) -> None:
    extras = leaf(extras)
    inputs = heads(rows, count)
    ctx = Causal(torch.zeros(rows, count, dtype=torch.long))
    got = ctx.attend(0, spec, *inputs, scale=0.3, **extras)
    mask = reference_mask(spec, ctx.positions)
    agree(inputs, got, attend_reference(*inputs, mask, scale=0.3, **extras), extras["sinks"])


@settings(max_examples=40, deadline=None)
@given(
    spec=SPECS,
    extras=EXTRAS,
    rows=st.lists(st.lists(st.integers(1, 120), min_size=1, max_size=6), min_size=1, max_size=2),
)
def test_packed_documents(spec: LayerSpec, extras: dict[str, Any], rows: list[list[int]]) -> None:
    width = min(sum(row) for row in rows)
    ids = [torch.arange(len(row)).repeat_interleave(torch.tensor(row))[:width] for row in rows]
    documents, extras = torch.stack(ids), leaf(extras)
    inputs = heads(len(rows), width)
    ctx = Packed(documents)
    got = ctx.attend(0, spec, *inputs, scale=0.3, **extras)
    for row in documents.tolist():
        assert row == sorted(row)
    mask = reference_mask(spec, ctx.positions, documents)
    line = torch.arange(width)
    mask &= line <= line[:, None]  # a document's positions start again, its place in the row does not
    agree(inputs, got, attend_reference(*inputs, mask, scale=0.3, **extras), extras["sinks"])


def test_packed_knows_each_tokens_position_and_its_documents_length() -> None:
    ctx = Packed(torch.tensor([[4, 4, 4, 7, 7], [7, 7, 2, 2, 2]]))
    assert ctx.positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert isinstance(ctx.lengths, Tensor)
    assert ctx.lengths.tolist() == [[3, 3, 3, 2, 2], [2, 2, 3, 3, 3]]


def test_flat_bounds_and_document_ids_say_the_same() -> None:
    inputs = heads(1, 9)
    flat = tuple(x[0] for x in inputs)
    by_bounds = Packed.from_bounds([0, 4, 9]).attend(0, LayerSpec(), *flat, scale=1.0)
    by_ids = Packed(torch.tensor([0] * 4 + [1] * 5)).attend(0, LayerSpec(), *flat, scale=1.0)
    assert torch.equal(by_bounds, by_ids)


@settings(max_examples=40, deadline=None)
@given(
    spec=SPECS,
    extras=EXTRAS,
    steps=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=5),
)
@torch.no_grad()
def test_cached_steps_of_unequal_rows(
    spec: LayerSpec, extras: dict[str, Any], steps: list[tuple[int, int]]
) -> None:
    """Two rows grow by different counts; each new token's output is as in one pass over its whole row."""
    totals = [sum(step[row] for step in steps) for row in (0, 1)]
    inputs = heads(2, max(totals))
    config = ModelConfig(
        vocab=2, d=32, layers=1, heads=HEADS, kv_heads=GROUPS, context=400, layer_specs=(spec,)
    )
    cache = KVCache(config, batch=2, like=inputs[0])
    positions = torch.arange(max(totals)).expand(2, -1)
    wanted = attend_reference(*inputs, reference_mask(spec, positions), scale=0.3, **extras)
    for counts in steps:
        seen, new = list(cache.lengths), max(counts)
        ctx = Cached(cache, torch.zeros(2, new, dtype=torch.long), counts=list(counts))
        parts = [torch.zeros(2, new, *x.shape[2:]) for x in inputs]
        for part, x in zip(parts, inputs, strict=True):
            for row in (0, 1):
                part[row, : counts[row]] = x[row, seen[row] : seen[row] + counts[row]]
        got = ctx.attend(0, spec, *parts, scale=0.3, **extras)
        ctx.finish()
        for row in (0, 1):
            end = seen[row] + counts[row]
            torch.testing.assert_close(
                got[row, : counts[row]], wanted[row, seen[row] : end], rtol=1e-4, atol=1e-5
            )
    assert cache.lengths == totals


@settings(max_examples=40, deadline=None)
@given(data=st.data(), extras=EXTRAS, count=st.integers(1, 200), keys=st.integers(1, 1500))
def test_any_intervals_of_keys(data: st.DataObject, extras: dict[str, Any], count: int, keys: int) -> None:
    """Queries need not stand where the keys do, rows may differ, and a query may see nothing."""
    seed = data.draw(st.integers(0, 99))
    extras = leaf(extras)
    torch.manual_seed(seed)
    first = torch.randint(0, keys, (2, count)).sort().values
    last = first + torch.randint(-1, keys, (2, count))
    q, (_, k, v) = heads(2, count)[0], heads(2, keys, width=6)
    got = interval_attention(q, k, v, intervals(first, last, keys), scale=0.3, **extras)
    line = torch.arange(keys)
    mask = (line >= first[..., None]) & (line <= last[..., None])
    agree((q, k, v), got, attend_reference(q, k, v, mask, scale=0.3, **extras), extras["sinks"])


@pytest.mark.parametrize("spec", [LayerSpec(), LayerSpec(attn="sliding", window=5)])
def test_half_precision_stays_half_and_close(spec: LayerSpec) -> None:
    inputs = heads(1, 50)
    half = tuple(x.detach().bfloat16() for x in inputs)
    ctx = Causal(torch.zeros(1, 50, dtype=torch.long))
    got = ctx.attend(0, spec, *half, scale=0.3, softcap=5.0)
    wanted = ctx.attend(0, spec, *inputs, scale=0.3, softcap=5.0)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, rtol=0.05, atol=0.02)
