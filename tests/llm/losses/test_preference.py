"""Each loss against its paper's formula written out in numpy."""

import numpy as np
import pytest
import torch

from blixt.llm.losses import (
    PairLogprobs,
    dpo_loss,
    ipo_loss,
    kto_loss,
    kto_reference_point,
    orpo_loss,
    simpo_loss,
)

RANDOM = np.random.default_rng(0)
CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED = (RANDOM.uniform(-9, -0.5, 7) for _ in range(4))
PAIRS = PairLogprobs(*(torch.tensor(x) for x in (CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED)))
MARGIN = (CHOSEN - REF_CHOSEN) - (REJECTED - REF_REJECTED)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_dpo_is_the_log_sigmoid_of_the_scaled_margin(beta: float) -> None:
    np.testing.assert_allclose(dpo_loss(PAIRS, beta), -np.log(sigmoid(beta * MARGIN)), rtol=1e-6)
    smoothed = -0.8 * np.log(sigmoid(beta * MARGIN)) - 0.2 * np.log(sigmoid(-beta * MARGIN))
    np.testing.assert_allclose(dpo_loss(PAIRS, beta, label_smoothing=0.2), smoothed, rtol=1e-6)


def test_dpo_of_a_model_that_is_its_reference_is_log_2() -> None:
    same = PairLogprobs(PAIRS.chosen, PAIRS.rejected, PAIRS.chosen, PAIRS.rejected)
    np.testing.assert_allclose(dpo_loss(same), np.log(2), rtol=1e-6)


def test_ipo_draws_the_margin_to_half_of_one_over_beta() -> None:
    np.testing.assert_allclose(ipo_loss(PAIRS, 0.25), (MARGIN - 2.0) ** 2, rtol=1e-6)


def test_simpo_needs_no_reference() -> None:
    expected = -np.log(sigmoid(2.5 * (CHOSEN - REJECTED) - 1.4))
    np.testing.assert_allclose(simpo_loss(PAIRS, 2.5, 1.4), expected, rtol=1e-6)


def test_orpo_adds_the_ratio_of_odds_to_the_cross_entropy() -> None:
    odds = np.exp(CHOSEN) / (1 - np.exp(CHOSEN)), np.exp(REJECTED) / (1 - np.exp(REJECTED))
    expected = -CHOSEN - 0.3 * np.log(sigmoid(np.log(odds[0] / odds[1])))
    np.testing.assert_allclose(orpo_loss(PAIRS, 0.3), expected, rtol=1e-5)


def test_orpo_is_finite_for_an_answer_that_is_certain() -> None:
    certain = torch.zeros(1, requires_grad=True)
    loss = orpo_loss(PairLogprobs(certain, torch.tensor([-2.0]), certain, certain))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert certain.grad is not None
    assert torch.isfinite(certain.grad).all()


def test_kto_values_wanted_and_unwanted_answers_around_the_reference_point() -> None:
    wanted = np.array([1, 0, 1, 1, 0, 0, 1], bool)
    ratio, zero = CHOSEN - REF_CHOSEN, 0.37
    liked = 1.5 * (1 - sigmoid(0.2 * (ratio - zero)))
    disliked = 0.5 * (1 - sigmoid(0.2 * (zero - ratio)))
    found = kto_loss(PAIRS.chosen, PAIRS.ref_chosen, torch.tensor(wanted), torch.tensor(zero), 0.2, 1.5, 0.5)
    np.testing.assert_allclose(found, np.where(wanted, liked, disliked), rtol=1e-6)


def test_ktos_reference_point_is_the_mean_log_ratio_but_not_below_zero() -> None:
    high, low = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -2.5])
    assert kto_reference_point(high, low).item() == pytest.approx(1.25)
    assert kto_reference_point(low, high).item() == 0


@pytest.mark.parametrize("loss", [dpo_loss, ipo_loss, simpo_loss, orpo_loss])
def test_a_step_down_the_gradient_raises_the_margin(loss: object) -> None:
    chosen, rejected = (torch.tensor([-3.0], requires_grad=True) for _ in range(2))
    reference = torch.tensor([-3.0])
    loss(PairLogprobs(chosen, rejected, reference, reference)).sum().backward()  # type: ignore[operator]
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() < 0 < rejected.grad.item()
