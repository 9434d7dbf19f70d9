"""Gradients are cleared in the shortest way, and in the optimizer's own where it has one."""

from typing import Any

import pytest
import torch

from blixt.fabric import Fabric
from blixt.fabric.clearing import zero_grad_of


@pytest.fixture
def weight() -> torch.Tensor:
    made = torch.ones(2, requires_grad=True)
    made.sum().backward()
    return made


def test_gradients_are_gone_or_zero_as_it_was_asked_for(weight: torch.Tensor) -> None:
    clear = zero_grad_of(torch.optim.SGD([weight], lr=0.1))
    clear(set_to_none=False)
    assert weight.grad is not None
    assert not weight.grad.any()
    clear()
    assert weight.grad is None


def test_groups_that_came_later_are_cleared_too(weight: torch.Tensor) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    clear = zero_grad_of(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())  # makes the list of groups anew
    optimizer.add_param_group({"params": [weight]})
    clear()
    assert weight.grad is None


def test_an_optimizers_own_way_is_kept(weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            called.append("class")

    zero_grad_of(Own([weight], lr=0.1))()
    patched: Any = torch.optim.SGD([weight], lr=0.1)
    patched.zero_grad = lambda: called.append("instance")
    zero_grad_of(patched)()
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self: called.append("everyone"))
    zero_grad_of(torch.optim.SGD([weight], lr=0.1))()
    assert called == ["class", "instance", "everyone"]


def test_an_optimizer_that_was_set_up_clears_with_either_argument(weight: torch.Tensor) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    optimizer = fabric.setup_optimizers(torch.optim.SGD([weight], lr=0.1))
    optimizer.zero_grad(set_to_none=False)
    assert weight.grad is not None
    assert not weight.grad.any()
    optimizer.zero_grad()
    assert weight.grad is None
