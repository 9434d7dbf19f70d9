"""Grouped products against one expert at a time, and every way of choosing experts."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blixt.llm.config import MoESpec
from blixt.llm.moe import Experts, MoE, route

D = 16


def fresh(spec: MoESpec, seed: int = 0) -> Experts:
    torch.manual_seed(seed)
    experts = Experts(D, spec, F.silu)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_(0, 0.5)
    return experts


def one_by_one(experts: Experts, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """The slow truth: each expert takes its tokens in turn."""
    spec, out = experts.spec, torch.zeros_like(x)
    for token in range(len(x)):
        for expert, weight in zip(index[token].tolist(), weights[token], strict=True):
            h = x[token] * weight if spec.weigh_input else x[token]
            gate, up = experts.gate[expert] @ h, experts.up[expert] @ h
            if experts.gate_bias is not None:
                gate, up = gate + experts.gate_bias[expert], up + experts.up_bias[expert]
            if spec.act == "swiglu_clamped":
                gate, up = gate.clamp(max=spec.limit), up.clamp(-spec.limit, spec.limit)
                inner = gate * torch.sigmoid(spec.alpha * gate) * (up + 1)
            else:
                inner = F.silu(gate) * up
            y = experts.down[expert] @ inner
            if experts.down_bias is not None:
                y = y + experts.down_bias[expert]
            out[token] += y if spec.weigh_input else y * weight
    return out


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 40),
    experts=st.integers(1, 12),
    top_k=st.integers(1, 4),
    extras=st.sampled_from(
        [{}, {"weigh_input": True}, {"expert_bias": True, "act": "swiglu_clamped", "limit": 1.0}]
    ),
    seed=st.integers(0, 99),
)
def test_grouped_products_equal_one_expert_at_a_time(
    count: int, experts: int, top_k: int, extras: dict[str, Any], seed: int
) -> None:
    spec = MoESpec(experts, min(top_k, experts), 24, **extras)
    layer = fresh(spec, seed)
    x = torch.randn(count, D, requires_grad=True)
    index = torch.stack([torch.randperm(experts)[: spec.top_k] for _ in range(count)])
    weights = torch.rand(count, spec.top_k, requires_grad=True)
    got, wanted = layer(x, index, weights), one_by_one(layer, x, index, weights)
    with torch.no_grad():  # a few visits are computed one by one then, and all of them when asked for
        torch.testing.assert_close(layer(x, index, weights), wanted, rtol=1e-4, atol=1e-4)
        layer.row_by_row = True
        alone = layer(x, index, weights)
        torch.testing.assert_close(alone, wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(alone[-1:], layer(x[-1:], index[-1:], weights[-1:]))
        layer.row_by_row = False
        for stack in (layer.gate, layer.up, layer.down):  # as an engine stores them
            stack.data = stack.data.mT.contiguous().mT
        torch.testing.assert_close(layer(x, index, weights), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    leaves = [x, weights, *layer.parameters()]
    grads = (
        torch.autograd.grad(got.square().sum(), leaves),
        torch.autograd.grad(wanted.square().sum(), leaves),
    )
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_no_tokens_give_no_tokens() -> None:
    spec = MoESpec(4, 2, 8)
    assert fresh(spec)(torch.zeros(0, D), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2)).shape == (
        0,
        D,
    )


def test_softmax_of_all_and_of_the_chosen_agree_when_normalised() -> None:
    logits = torch.randn(20, 8)
    after = route(logits, MoESpec(8, 3, 4, score="softmax_topk"))
    before = route(logits, MoESpec(8, 3, 4, score="softmax", normalise=True))
    assert torch.equal(after[0], before[0])
    torch.testing.assert_close(after[1], before[1])


def test_scores_that_are_not_normalised_are_probabilities_of_all_experts() -> None:
    logits = torch.randn(5, 8)
    index, weights = route(logits, MoESpec(8, 3, 4, normalise=False, scale=2.0))
    torch.testing.assert_close(weights, 2 * logits.softmax(-1).gather(-1, index))


def test_a_correction_moves_the_choice_but_not_the_weight() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    correction = torch.tensor([0.0, 0.0, 0.0, 9.0])
    index, weights = route(logits, MoESpec(4, 1, 4, score="sigmoid", normalise=False), correction)
    assert index.tolist() == [[3]]
    torch.testing.assert_close(weights, torch.sigmoid(logits[:, 3:]))


@pytest.mark.parametrize(("rank", "chosen"), [("max", {0, 1}), ("top2", {2, 3})])
def test_only_experts_of_the_best_group_are_open(rank: Any, chosen: set[int]) -> None:
    """The first group has the best single expert, the second the best two."""
    logits = torch.tensor([[3.0, -3.0, 2.0, 1.9]])
    spec = MoESpec(4, 2, 4, score="sigmoid", groups=2, top_groups=1, group_score=rank)
    assert set(route(logits, spec)[0][0].tolist()) == chosen


def test_a_shared_expert_sees_every_token_and_its_gate_weighs_it() -> None:
    torch.manual_seed(0)
    shared = torch.nn.Linear(D, D)
    spec = MoESpec(4, 1, 8, shared_d_ff=D, shared_gate=True)
    layer = MoE(D, spec, F.silu, shared)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.3)
    assert layer.shared_gate is not None
    x = torch.randn(2, 3, D)
    routed = layer.experts(x.flatten(0, 1), *layer.router(x.flatten(0, 1))).view_as(x)
    torch.testing.assert_close(layer(x), routed + shared(x) * torch.sigmoid(layer.shared_gate(x)))
