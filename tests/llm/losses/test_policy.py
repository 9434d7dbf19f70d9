"""The policy loss against GRPO's equations written out token by token."""

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch

from blixt.llm.losses import PolicyLoss, group_advantages, kl_estimate, policy_loss

LENGTHS = (4, 1, 6)
ADVANTAGES = (0.9, -1.2, 0.3)


def answers(seed: int = 0) -> dict[str, np.ndarray]:
    """Three answers in two rows of 8 with prompts and padding between them."""
    random = np.random.default_rng(seed)
    sequences = np.array([[0, 0, 0, 0, 0, 1, 1, -1], [2, 2, 2, 2, 2, 2, 2, 2]])
    mask = np.array([[0, 1, 1, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 1, 1, 1]], bool)
    new, old, ref = (random.uniform(-2, -0.1, (2, 8)) for _ in range(3))
    return {"logprobs": new, "old": old, "ref": ref, "mask": mask, "sequences": sequences}


def by_hand(
    data: dict[str, np.ndarray], low: float, high: float, beta: float, average: str, level: str, length: int
) -> float:
    total, tokens = 0.0, 0
    for number, advantage in enumerate(ADVANTAGES):
        here = (data["sequences"] == number) & data["mask"]
        new, old, ref = (data[k][here] for k in ("logprobs", "old", "ref"))
        assert len(new) == LENGTHS[number]
        ratios = np.exp(new - old)
        if level == "sequence":
            ratios = np.full_like(ratios, math.exp(float(np.mean(new - old))))
        summed = 0.0
        for token, ratio in enumerate(ratios):
            clipped = min(max(ratio, 1 - low), 1 + high)
            objective = min(ratio * advantage, clipped * advantage)
            divergence = math.exp(ref[token] - new[token]) - (ref[token] - new[token]) - 1
            summed += objective - beta * divergence
        total += {"tokens": summed, "sequences": summed / len(new), "constant": summed / length}[average]
        tokens += len(new)
    return -total / (tokens if average == "tokens" else len(ADVANTAGES))


@pytest.mark.parametrize("average", ["tokens", "sequences", "constant"])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.1, 0.4)])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_loss_is_that_of_the_papers_token_by_token(
    average: Literal["tokens", "sequences", "constant"],
    level: Literal["token", "sequence"],
    low: float,
    high: float,
    beta: float,
) -> None:
    data = answers()
    settings = PolicyLoss(low, high, beta, average, 16, level)
    terms = policy_loss(
        *(torch.tensor(data[k]) for k in ("logprobs", "old")),
        torch.tensor(ADVANTAGES, dtype=torch.float64),
        *(torch.tensor(data[k]) for k in ("mask", "sequences")),
        settings,
        ref=torch.tensor(data["ref"]),
    )
    assert terms.loss.item() == pytest.approx(by_hand(data, low, high, beta, average, level, 16))


def parts(seed: int = 0) -> dict[str, Any]:
    return {k: torch.tensor(v) for k, v in answers(seed).items()}


def test_count_makes_micro_batches_add_up_to_the_whole() -> None:
    data, advantages = parts(), torch.tensor(ADVANTAGES, dtype=torch.float64)
    whole = policy_loss(
        data["logprobs"], data["old"], advantages, data["mask"], data["sequences"], PolicyLoss()
    ).loss
    rows = [
        policy_loss(
            *(data[k][row] for k in ("logprobs", "old")),
            advantages,
            *(data[k][row] for k in ("mask", "sequences")),
            PolicyLoss(),
            count=sum(LENGTHS),
        ).loss
        for row in range(2)
    ]
    torch.testing.assert_close(rows[0] + rows[1], whole)


def test_at_the_policy_that_wrote_the_answers_the_gradient_is_the_plain_policy_gradient() -> None:
    data = parts()
    new = data["old"].clone().requires_grad_()
    terms = policy_loss(
        new, data["old"], torch.tensor(ADVANTAGES), data["mask"], data["sequences"], PolicyLoss()
    )
    terms.loss.backward()
    assert new.grad is not None
    expected = -torch.tensor(ADVANTAGES, dtype=torch.float64)[data["sequences"].clamp(min=0)] / sum(LENGTHS)
    torch.testing.assert_close(new.grad, expected * data["mask"], atol=1e-6, rtol=1e-5)
    assert terms.clipped.item() == 0
    assert terms.ratio.item() == pytest.approx(1)


def test_a_ratio_beyond_the_clip_has_no_gradient() -> None:
    old = torch.tensor([[-2.0, -2.0]])
    new = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    terms = policy_loss(
        new, old, torch.tensor([1.0]), torch.ones(1, 2).bool(), torch.zeros(1, 2).long(), PolicyLoss()
    )
    terms.loss.backward()
    assert new.grad is not None
    assert new.grad[0, 0] == 0
    assert new.grad[0, 1] < 0
    assert terms.clipped.item() == 0.5


def test_advantages_are_relative_to_the_group() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    found = group_advantages(torch.tensor(rewards), 3)
    first = (rewards[:3] - rewards[:3].mean()) / (rewards[:3].std(ddof=1) + 1e-4)
    np.testing.assert_allclose(found, [*first, 0, 0, 0], atol=1e-6)
    plain = group_advantages(torch.tensor(rewards), 3, scale=False)
    np.testing.assert_allclose(plain[:3], rewards[:3] - 1 / 3, atol=1e-6)


def test_the_kl_estimate_is_never_negative_and_unbiased() -> None:
    random = torch.Generator().manual_seed(0)
    p, q = (torch.randn(5, generator=random, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    estimates = kl_estimate(p, q)
    assert (estimates >= 0).all()
    exact = (p.exp() * (p - q)).sum()
    torch.testing.assert_close((p.exp() * estimates).sum(), exact)
