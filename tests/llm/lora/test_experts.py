"""Adapters on experts, routers and embeddings: what they compute and what is trained."""

import pytest
import torch
from torch import Tensor

from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.errors import AdapterError
from blixt.llm.lora import LoRAConfig, adapters, add_lora, disable_adapters, lora_state, merge, unmerge
from blixt.llm.lora.experts import LoRAExperts
from blixt.llm.model import GPT
from blixt.llm.moe import Experts
from blixt.llm.quant import quantize
from blixt.llm.specs import MoESpec

TOKENS = torch.arange(1, 25).view(2, 12)
ALL = LoRAConfig(r=3, alpha=6, targets=("q", "experts", "router", "embed"))


def base() -> GPT:
    torch.manual_seed(0)
    moe = MoESpec(experts=4, top_k=2, d_ff=32, shared_d_ff=16)
    config = ModelConfig(
        vocab=64,
        d=32,
        layers=2,
        heads=4,
        kv_heads=2,
        context=64,
        moe=moe,
        layer_specs=(LayerSpec(mlp="moe"),) * 2,
    )
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    return model


def stirred(model: GPT) -> GPT:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in lora_state(model).values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def logits(model: GPT) -> Tensor:
    with torch.no_grad():
        return model(TOKENS)


def test_a_new_adapter_changes_nothing_and_only_it_is_trained() -> None:
    model = add_lora(base(), ALL)
    assert torch.allclose(logits(model), logits(base()), atol=1e-5)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(lora_state(model))
    assert {"embed.lora_a", "blocks.1.mlp.router.lora_b", "blocks.0.mlp.experts.down_lora_a"} <= trained


@pytest.mark.parametrize("scheme", ["", "nf4", "int8"])
def test_merged_experts_give_the_same_and_unmerged_the_old_bits(scheme: str) -> None:
    model = base()
    if scheme:
        quantize(model, scheme)
    plain = logits(model)
    model = stirred(add_lora(model, ALL))
    adapted = logits(model)
    assert (adapted - plain).abs().max() > 0.05 * plain.abs().max()
    with disable_adapters(model):
        assert torch.equal(logits(model), plain)
    assert torch.allclose(logits(merge(model)), adapted, atol=2e-5 * float(adapted.abs().max()))
    assert torch.equal(logits(unmerge(model)), adapted)


def test_gradients_are_those_of_the_products_put_into_the_weights() -> None:
    spec = MoESpec(experts=4, top_k=2, d_ff=12)
    torch.manual_seed(0)
    experts = Experts(8, spec, torch.nn.functional.silu)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    layer = LoRAExperts(experts, {"gate": (3, 0.5), "down": (8, 2.0)})
    for parameter in layer.parameters():
        parameter.requires_grad_(parameter.dim() == 3).data.normal_()
    experts.requires_grad_(requires_grad=False)
    x, index = torch.randn(10, 8), torch.randint(0, 4, (10, 2))
    index[:, 1] = (index[:, 0] + 1) % 3  # one expert is visited rarely, and none twice by a token
    weights = torch.rand(10, 2)
    layer(x, index, weights).square().sum().backward()

    pairs = {part: [t.detach().clone().requires_grad_() for t in layer.pair(part)] for part in layer.scales}
    full = {part: getattr(experts, part) for part in ("gate", "up", "down")}
    for part, (a, b) in pairs.items():
        full[part] = full[part] + layer.scales[part] * b @ a
    total = torch.zeros(())
    for token in range(10):
        y = torch.zeros(8)
        for expert, share in zip(index[token].tolist(), weights[token], strict=True):
            h = torch.nn.functional.silu(full["gate"][expert] @ x[token]) * (full["up"][expert] @ x[token])
            y = y + share * (full["down"][expert] @ h)
        total = total + y.square().sum()
    total.backward()
    for part, pair in pairs.items():
        for mine, slow in zip(layer.pair(part), pair, strict=True):
            assert mine.grad is not None
            assert slow.grad is not None
            assert torch.allclose(mine.grad, slow.grad, rtol=1e-4, atol=1e-4 * float(slow.grad.abs().max()))


def test_experts_are_chosen_only_by_patterns_that_say_so() -> None:
    names = {name.rpartition(".")[2] for name in lora_names(LoRAConfig(targets=("gate", "*")))}
    assert names == {"q", "k", "v", "out", "gate", "up", "down"}
    assert not any("experts" in name for name in lora_names(LoRAConfig()))
    assert lora_names(LoRAConfig(targets=("0.mlp.experts.up",))) == {"blocks.0.mlp.experts"}
    with pytest.raises(
        AdapterError, match=r"DoRA is for linear layers, which blocks\.0\.mlp\.experts is not"
    ):
        lora_names(LoRAConfig(targets=("experts",), dora=True))
    with pytest.raises(AdapterError, match="no layer of the model is called 'expert'; did you mean"):
        lora_names(LoRAConfig(targets=("expert",)))


def lora_names(config: LoRAConfig) -> set[str]:
    return {name for name, _ in adapters(add_lora(base(), config))}
