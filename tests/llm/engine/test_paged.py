"""Attention over blocks, both ways, against attention by the book over each request's whole sequence."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blixt.llm.attention import attend_reference, first_seen
from blixt.llm.config import ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.engine import paged as paged_file
from blixt.llm.engine.paged import Paged, Span
from blixt.llm.engine.paged_cache import PagedCache, block_counts, cache_groups
from blixt.llm.engine.paged_cuda import PagedFlash, kernel_reads_tables, read_of
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling
from blixt.llm.specs import LayerSpec, RopeSpec

SIZE, BLOCKS, HEADS, GROUPS, WIDTH = 4, 40, 6, 2, 8
ROPE = RopeSpec()
SPECS = {
    "full": LayerSpec(rope=ROPE),
    "sliding": LayerSpec(attn="sliding", window=5, rope=ROPE),
    "chunked": LayerSpec(attn="chunked", window=8, rope=ROPE),
}
CPU = torch.device("cpu")


@dataclass
class Case:
    """Requests with something in the cache already and a few new rows each."""

    spec: LayerSpec
    spans: list[Span]
    q: list[Tensor]
    k: list[Tensor]
    v: list[Tensor]
    cache: PagedCache
    positions: Tensor


def make_case(kind: str, seed: int) -> Case:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    spec = SPECS[kind]
    config = ModelConfig(
        vocab=9, d=48, layers=1, heads=HEADS, kv_heads=GROUPS, head_dim=WIDTH, layer_specs=(spec,)
    )
    cache = PagedCache(config, cache_groups(config), (BLOCKS,), SIZE, torch.float32, CPU)
    free = draw.sample(range(1, BLOCKS + 1), BLOCKS)
    if draw.random() < 0.5:
        free.sort()
    spans, parts = [], ([], [], [])
    for _ in range(draw.randrange(1, 5)):
        start, count = draw.choice([0, 0, 3, 8, 17]), draw.choice([1, 1, 2, 5, 11])
        blocks = [free.pop(0) for _ in range(-(-(start + count) // SIZE))]
        spans.append(Span(start, count, [blocks]))
        for part, heads in zip(parts, (HEADS, GROUPS, GROUPS), strict=True):
            part.append(torch.randn(start + count, heads, WIDTH))
        for stored, part in zip(cache.parts[0], parts[1:], strict=True):
            for position in range(start):
                stored[blocks[position // SIZE], position % SIZE] = part[-1][position]
    positions = torch.tensor([p for s in spans for p in range(s.start, s.start + s.count)])
    return Case(spec, spans, *parts, cache, positions)


def new_rows(case: Case, parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part[span.start :] for span, part in zip(case.spans, parts, strict=True)])


def by_the_book(case: Case, scale: float, softcap: float = 0.0, sinks: Tensor | None = None) -> Tensor:
    rows = []
    for span, q, k, v in zip(case.spans, case.q, case.k, case.v, strict=True):
        places = torch.arange(len(q))
        mask = (places <= places[:, None]) & (places >= first_seen(case.spec, places)[:, None])
        y = attend_reference(q[None], k[None], v[None], mask, scale=scale, softcap=softcap, sinks=sinks)
        rows.append(y[0, span.start :])
    return torch.cat(rows)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(SPECS)),
    seed=st.integers(0, 10_000),
    extra=st.sampled_from(["", "cap", "sinks"]),
)
def test_rows_see_their_own_past_through_the_blocks(kind: str, seed: int, extra: str) -> None:
    case = make_case(kind, seed)
    softcap = 2.0 if extra == "cap" else 0.0
    sinks = torch.randn(HEADS) if extra == "sinks" else None
    groups = cache_groups(ModelConfig(vocab=9, layers=1, layer_specs=(case.spec,)))
    context = Paged(case.cache, groups, case.spans, case.positions, case.positions + 1)
    q, k, v = (new_rows(case, part) for part in (case.q, case.k, case.v))
    y = context.attend(0, case.spec, q, k, v, scale=0.3, softcap=softcap, sinks=sinks)
    torch.testing.assert_close(y, by_the_book(case, 0.3, softcap, sinks), atol=1e-5, rtol=1e-5)


def test_a_piece_with_much_behind_it_is_cut_and_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_file, "MASK_ELEMENTS", 40)
    for kind in SPECS:
        for seed in range(8):
            case = make_case(kind, seed)
            groups = cache_groups(ModelConfig(vocab=9, layers=1, layer_specs=(case.spec,)))
            context = Paged(case.cache, groups, case.spans, case.positions, case.positions + 1)
            q, k, v = (new_rows(case, part) for part in (case.q, case.k, case.v))
            y = context.attend(0, case.spec, q, k, v, scale=0.3)
            torch.testing.assert_close(y, by_the_book(case, 0.3), atol=1e-5, rtol=1e-5)


def kernel_by_its_documentation(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    bounds: Tensor,
    key_bounds: Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: Tensor,
    block_table: Tensor,
    num_splits: int,
) -> tuple[Tensor, Tensor]:
    """What torch documents of `varlen_attn` with a block table: causal and aligned at the end."""
    assert (num_splits, window_size[1]) == (1, 0)
    assert enable_gqa == (q.shape[1] != keys.shape[2])
    assert key_bounds.diff().tolist() == seqused_k.tolist()
    out, sums = torch.empty_like(q), torch.empty(q.shape[1], len(q))
    for piece, used in enumerate(seqused_k.tolist()):
        rows = slice(int(bounds[piece]), int(bounds[piece + 1]))
        count = rows.stop - rows.start
        assert count <= longest
        assert used <= longest_key
        k, v = (x[block_table[piece].long()].flatten(0, 1)[:used] for x in (keys, values))
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        scores = torch.einsum("thc,shc->hts", q[rows], k) * scale
        places, own = torch.arange(used), torch.arange(used - count, used)[:, None]
        seen = places <= own
        if window_size[0] >= 0:
            seen &= places >= own - window_size[0]
        scores = scores.masked_fill(~seen, float("-inf"))
        out[rows] = torch.einsum("hts,shc->thc", scores.softmax(-1), v)
        sums[:, rows] = scores.logsumexp(-1)
    return out, sums


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(SPECS)),
    seed=st.integers(0, 10_000),
    padding=st.integers(0, 3),
    with_sinks=st.booleans(),
)
def test_tables_and_bounds_for_the_gpu_kernel_lead_to_the_same(
    kind: str, seed: int, padding: int, with_sinks: bool
) -> None:
    case = make_case(kind, seed)
    sinks = torch.randn(HEADS) if with_sinks else None
    (group,) = groups = cache_groups(ModelConfig(vocab=9, layers=1, layer_specs=(case.spec,)))
    q, k, v = (new_rows(case, part) for part in (case.q, case.k, case.v))
    count = len(q)
    q, k, v = (torch.cat((x, torch.zeros(padding, *x.shape[1:]))) for x in (q, k, v))
    reading = read_of(case.spans, 0, group, SIZE, count + padding, CPU)
    context = PagedFlash(
        case.cache, groups, [reading], case.positions, case.positions + 1, kernel_by_its_documentation
    )
    y = context.attend(0, case.spec, q, k, v, scale=0.3, sinks=sinks)[:count]
    torch.testing.assert_close(y, by_the_book(case, 0.3, sinks=sinks), atol=1e-5, rtol=1e-5)


def test_a_captured_reading_takes_over_a_smaller_one() -> None:
    case = make_case("full", 3)
    (group,) = cache_groups(ModelConfig(vocab=9, layers=1, layer_specs=(case.spec,)))
    spans = [Span(span.start + span.count - 1, 1, span.blocks) for span in case.spans]
    wide, narrow = read_of((), 0, group, SIZE, 6, CPU), read_of(spans, 0, group, SIZE, 6, CPU)
    wide.table = torch.zeros(6, 20, dtype=torch.int32)
    wide.copy_(narrow)
    assert torch.equal(wide.table[:, : narrow.table.shape[1]], narrow.table)
    for name in ("slots", "used", "bounds", "key_bounds"):
        assert torch.equal(getattr(wide, name), getattr(narrow, name))


def test_where_the_gpu_kernel_does_not_run_that_is_said_and_the_other_way_taken() -> None:
    with pytest.warns(UserWarning, match="the slow way on cpu"):
        assert not kernel_reads_tables(CPU, torch.bfloat16)


def test_latents_are_all_that_latent_attention_caches() -> None:
    from blixt.llm.specs import MLASpec

    mla = MLASpec(kv_rank=512, rope_dim=64, nope_dim=128, v_dim=128)
    config = ModelConfig(
        vocab=9,
        d=64,
        layers=1,
        heads=16,
        kv_heads=16,
        mla=mla,
        layer_specs=(LayerSpec(attn="mla", rope=ROPE),),
    )
    cache = PagedCache(config, cache_groups(config), (3,), SIZE, torch.float32, CPU)
    assert [part.shape for part in cache] == [(4, SIZE, 576)]


def test_windows_leave_memory_to_the_layers_that_see_everything() -> None:
    specs = (LayerSpec(attn="sliding", window=16, rope=ROPE),) * 5 + (LayerSpec(rope=ROPE),)
    config = ModelConfig(vocab=9, d=32, layers=6, heads=2, kv_heads=1, context=4096, layer_specs=specs)
    groups = cache_groups(config)
    sizes = {"tokens": 4096, "batch": 8, "step": 32}
    plenty = block_counts(config, groups, 16, torch.float32, **sizes, room_bytes=1 << 40)
    assert plenty == (8 * 4, 8 * 256)
    little = block_counts(config, groups, 16, torch.float32, **sizes, room_bytes=300_000)
    assert little[0] == 4
    assert 0 < little[1] < 256


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("graphs", [False, True])
def test_on_a_gpu_tokens_equal_those_without_a_cache(graphs: bool) -> None:
    torch.manual_seed(0)
    specs = (LayerSpec(rope=ROPE), LayerSpec(attn="sliding", window=40, rope=ROPE))
    config = ModelConfig(vocab=300, d=128, layers=2, heads=4, kv_heads=2, context=2048, layer_specs=specs)
    model = GPT(config).to("cuda", torch.bfloat16).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(4)
    engine = Engine(model, None, EngineConfig(cuda_graphs=graphs, max_tokens_per_step=64))
    prompts = [[(7 * i + n) % 300 for i in range(n)] for n in (3, 90, 300)]
    for number, prompt in enumerate(prompts):
        engine.add(prompt, Sampling(temperature=0, max_tokens=10), uid=str(number))
    found: dict[str, list[int]] = {}
    while engine.has_work:
        for update in engine.step():
            assert not update.error
            found.setdefault(update.uid, []).extend(update.tokens)
    for number, prompt in enumerate(prompts):
        tokens = list(prompt)
        for _ in range(10):
            tokens.append(int(model(torch.tensor([tokens], device="cuda"))[0, -1].argmax()))
        assert found[str(number)] == tokens[len(prompt) :]
