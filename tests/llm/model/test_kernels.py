"""The CUDA kernels' wrappers: what can be checked on a CPU here, and on a GPU where there is one."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blixt.llm.attention import Causal, Packed, attend_reference, first_seen, intervals, reference_mask
from blixt.llm.attention.flex import BLOCK, block_mask, flex
from blixt.llm.config import LayerSpec

SPECS = [LayerSpec(), LayerSpec(attn="sliding", window=70), LayerSpec(attn="chunked", window=90)]
IDS = ["full", "sliding", "chunked"]
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def heads(rows: int, count: int, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    sizes = (4, 16), (2, 16), (2, 16)
    return tuple(torch.randn(rows, count, *size, requires_grad=True, **kwargs) for size in sizes)  # type: ignore[return-value]


@settings(max_examples=25, deadline=None)
@given(spec=st.sampled_from(SPECS), count=st.integers(1, 700), starts=st.integers(0, 300))
def test_blocks_hold_what_is_seen_and_whole_blocks_nothing_else(
    spec: LayerSpec, count: int, starts: int
) -> None:
    """Two documents: a block is listed when anything in it is seen, and is whole only when all of it is."""
    line = torch.arange(count)
    begin = torch.where(line >= starts, min(starts, count), 0)
    first = begin + first_seen(spec, line - begin)
    mask = block_mask(intervals(first, line, count), count)
    blocks = -(-count // BLOCK)
    seen = torch.zeros(blocks * BLOCK, blocks * BLOCK, dtype=torch.bool)
    seen[:count, :count] = (line >= first[:, None]) & (line <= line[:, None])
    tiles = seen.view(blocks, BLOCK, blocks, BLOCK).transpose(1, 2)
    assert torch.equal(mask.to_dense()[0, 0].bool(), tiles.flatten(2).any(-1))
    for row in range(blocks):
        for index in mask.full_kv_indices[0, 0, row, : mask.full_kv_num_blocks[0, 0, row]].tolist():
            rows = min(BLOCK, count - row * BLOCK)
            assert tiles[row, index, :rows].all()


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")
@torch.no_grad()
def test_flex_with_softcap_and_sinks_equals_the_reference(spec: LayerSpec) -> None:
    """Uncompiled, which on a CPU is forward only and looks at the mask's function, not its blocks."""
    inputs, line = tuple(x.detach() for x in heads(2, 200)), torch.arange(200)
    mask = block_mask(intervals(first_seen(spec, line), line, 200), 200)
    extras: dict[str, Any] = {"scale": 0.3, "softcap": 3.0, "sinks": torch.tensor([0.5, -1.0, 2.0, 0.0])}
    got = flex(*inputs, mask, **extras)
    wanted = attend_reference(*inputs, reference_mask(spec, line.expand(2, -1)), **extras)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@NO_GPU
@pytest.mark.parametrize("spec", SPECS, ids=IDS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extras", ["plain", "softcap", "sinks"])
def test_on_a_gpu_half_precision_agrees_with_the_reference(
    spec: LayerSpec, packed: bool, extras: str
) -> None:
    count = 300
    inputs = heads(2, count, device="cuda", dtype=torch.bfloat16)
    documents = (torch.arange(count) > 110).long().expand(2, -1)
    ctx = Packed(documents, "cuda") if packed else Causal(torch.zeros(2, count, device="cuda"))
    options: dict[str, Any] = {"softcap": 3.0} if extras == "softcap" else {}
    if extras == "sinks":
        options["sinks"] = torch.tensor([0.5, -1.0, 2.0, 0.0], device="cuda", requires_grad=True)
    got = ctx.attend(0, spec, *inputs, scale=0.3, **options)
    line = torch.arange(count, device="cuda")
    mask = reference_mask(spec, ctx.positions, documents.cuda() if packed else None) & (line <= line[:, None])
    wide = [x.detach().float().requires_grad_() for x in inputs]
    wanted = attend_reference(*wide, mask, scale=0.3, **options)
    torch.testing.assert_close(got.float(), wanted, rtol=0.05, atol=0.05)
    ours = torch.autograd.grad(got.float().square().sum(), inputs)
    theirs = torch.autograd.grad(wanted.square().sum(), wide)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0.1, atol=0.1)
    with torch.no_grad():
        torch.testing.assert_close(
            ctx.attend(0, spec, *inputs, scale=0.3, **options).float(), wanted, rtol=0.05, atol=0.05
        )
