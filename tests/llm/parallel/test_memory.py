"""Activations computed again and compiled blocks: the same numbers."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from blixt.llm.config import ModelConfig
from blixt.llm.errors import RecipeError
from blixt.llm.model import GPT
from blixt.llm.parallel.memory import Checkpointing, checkpoint_blocks, compile_blocks

CONFIG = ModelConfig(vocab=64, d=32, layers=3, heads=4, kv_heads=2, context=32)


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Counter[str]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[str(func)] += 1
        return func(*args, **(kwargs or {}))


def gradients(model: GPT) -> tuple[list[torch.Tensor], int]:
    """Of every parameter, and how many matrix products a step took."""
    with Products() as seen:
        model.loss(torch.arange(16).view(2, 8), torch.arange(1, 17).view(2, 8)).backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return found, sum(count for name, count in seen.count.items() if "mm" in name)


def a_model() -> GPT:
    torch.manual_seed(0)
    return GPT(CONFIG)


@pytest.mark.parametrize("how", ["none", "full", "selective"])
def test_gradients_are_the_same_to_the_bit(how: Checkpointing) -> None:
    expected, _ = gradients(a_model())
    model = a_model()
    checkpoint_blocks(model, how)
    found, _ = gradients(model)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


def test_selective_computes_fewer_products_again_than_full() -> None:
    counts: dict[Checkpointing, int] = {}
    for how in ("none", "full", "selective"):
        model = a_model()
        checkpoint_blocks(model, how)
        counts[how] = gradients(model)[1]
    assert counts["none"] < counts["selective"] < counts["full"]


def test_compiled_blocks_give_the_same_loss_and_gradients() -> None:
    expected, _ = gradients(a_model())
    model = a_model()
    compile_blocks(model, backend="aot_eager")
    found, _ = gradients(model)
    for one, two in zip(expected, found, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no `blocks`"):
        compile_blocks(torch.nn.Linear(2, 2))
