"""Distillation against the divergences written out in numpy."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.llm.losses.heads import Small, batch

from blixt.llm.losses import Distillation, distillation_loss, divergence, token_loss

DIVERGENCES: tuple[Literal["forward", "reverse", "jsd"], ...] = ("forward", "reverse", "jsd")


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


def by_hand(student: np.ndarray, teacher: np.ndarray, kind: str, temperature: float, k: int) -> np.ndarray:
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    if k:
        best = np.argsort(-p, -1)[:, :k]
        p, q = (np.take_along_axis(x, best, -1) for x in (p, q))
        p, q = (np.concatenate([x, 1 - x.sum(-1, keepdims=True)], -1) for x in (p, q))
    mixed = 0.3 * p + 0.7 * q
    found = {"forward": kl(p, q), "reverse": kl(q, p), "jsd": 0.3 * kl(p, mixed) + 0.7 * kl(q, mixed)}[kind]
    return found * temperature**2


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("k", [0, 5])
def test_divergences_are_those_of_their_definition(kind: Any, temperature: float, k: int) -> None:
    random = np.random.default_rng(0)
    student, teacher = random.normal(size=(2, 6, 31))
    found = divergence(
        torch.tensor(student), torch.tensor(teacher), Distillation(kind, temperature, k, jsd_weight=0.3)
    )
    np.testing.assert_allclose(found, by_hand(student, teacher, kind, temperature, k), rtol=1e-6)


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("k", [0, 4])
def test_a_student_that_is_its_teacher_has_no_loss(kind: Any, k: int) -> None:
    logits = torch.randn(5, 19, dtype=torch.float64)
    found = divergence(logits, logits, Distillation(kind, 2.0, k))
    torch.testing.assert_close(found, torch.zeros(5, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_looking_at_few_tokens_never_sees_more_than_all_do(kind: Any) -> None:
    student, teacher = torch.randn(2, 40, 50, dtype=torch.float64)
    whole = divergence(student, teacher, Distillation(kind))
    some = divergence(student, teacher, Distillation(kind, top_k=3))
    assert (some <= whole + 1e-9).all()


@pytest.mark.parametrize("hard", [0.0, 0.4, 1.0])
def test_the_chunked_loss_and_its_gradients_are_those_of_full_logits(hard: float) -> None:
    student, teacher, data = Small(seed=1), Small(16, seed=2), batch()
    taught = torch.randn(3, 11, 16)
    hidden = data["hidden"].requires_grad_()
    settings = Distillation(temperature=2.0, hard=hard)
    soft = divergence(
        student.logits(hidden)[data["mask"]], teacher.logits(taught)[data["mask"]].detach(), settings
    ).mean()
    plain = token_loss(student, hidden, data["targets"], data["mask"])
    expected = (1 - hard) * soft + hard * plain
    wanted = torch.autograd.grad(expected, [hidden, student.head.weight])
    loss = distillation_loss(
        student, hidden, teacher, taught, data["targets"], data["mask"], settings=settings, chunk=4
    )
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, [hidden, student.head.weight])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
    assert teacher.head.weight.grad is None


def test_a_teacher_with_a_padded_vocabulary_is_read_up_to_the_students() -> None:
    student, teacher = torch.randn(4, 20), torch.randn(4, 24)
    settings = Distillation()
    torch.testing.assert_close(
        divergence(student, teacher, settings), divergence(student, teacher[:, :20], settings)
    )
