import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.losses import token_loss
from blixt.llm.losses.plain import plain_weight
from blixt.llm.model import GPT

SIZES = {"vocab": 61, "d": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32, "context": 64}


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 61, (3, 40), generator=generator)
    return tokens[:, :-1], tokens[:, 1:], torch.rand(3, 39, generator=generator) < 0.6


@pytest.mark.parametrize(
    "sizes",
    [{"tie": True}, {"tie": False}, {"softcap_logits": 5.0}, {"logits_scale": 0.5}, {"head_bias": True}],
)
@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize("frozen", [False, True])
def test_every_kind_of_output_layer_has_the_plain_formulas_loss_and_gradients(
    sizes: dict[str, object], chunk: int, frozen: bool
) -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(**{**SIZES, "tie": "head_bias" not in sizes, **sizes}))  # type: ignore[arg-type]
    (model.embed if model.config.tie else model.head).requires_grad_(not frozen)
    tokens, targets, mask = batch()
    expected = F.cross_entropy(model(tokens)[mask], targets[mask])
    trained = [p for p in model.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(expected, trained)
    loss = token_loss(model, model.hidden(tokens), targets, mask, chunk=chunk)
    torch.testing.assert_close(loss, expected)
    for found, other in zip(torch.autograd.grad(loss, trained), wanted, strict=True):
        torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-6)


def test_torchs_function_is_used_where_logits_are_one_product_and_nowhere_else() -> None:
    model = GPT(ModelConfig(**SIZES))  # type: ignore[arg-type]
    hidden = torch.zeros(2, 16)
    assert plain_weight(model, hidden) is model.embed.weight
    assert plain_weight(model, hidden.bfloat16()) is None
    with torch.autocast("cpu"):
        assert plain_weight(model, hidden) is None
    capped = GPT(ModelConfig(**SIZES, softcap_logits=3.0))  # type: ignore[arg-type]
    assert plain_weight(capped, hidden) is None
    untied = GPT(ModelConfig(**SIZES, tie=False))  # type: ignore[arg-type]
    assert plain_weight(untied, hidden) is untied.head.weight
    add_lora(untied, LoRAConfig(targets=("head",)))
    assert plain_weight(untied, hidden) is None


def test_no_loss_position_has_zero_loss_and_gradients() -> None:
    model = GPT(ModelConfig(**SIZES))  # type: ignore[arg-type]
    tokens, targets, mask = batch()
    token_loss(model, model.hidden(tokens), targets, torch.zeros_like(mask)).backward()
    assert model.embed.weight.grad is not None
    assert not model.embed.weight.grad.any()
