"""Adapters on layers: what they compute, what is trained, and how they go away again."""

import copy

import pytest
import torch
from torch import Tensor, nn

from blixt.llm.errors import AdapterError
from blixt.llm.lora import (
    LoRAConfig,
    LoRALinear,
    adapters,
    add_lora,
    disable_adapters,
    lora_state,
    merge,
    remove_lora,
    unmerge,
)
from blixt.llm.lora.layer import dense_weight


class Net(nn.Module):
    """Two layers and an output layer, named as a decoder names them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 12)
        self.down = nn.Linear(12, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.down(self.up(x).relu())))


class Halved(nn.Module):
    """A linear layer that keeps its weight in 16 bits and says so."""

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = dense.in_features, dense.out_features
        self.register_buffer("kept", dense.weight.detach().to(torch.float16))
        self.bias = dense.bias

    def dequantize(self) -> Tensor:
        return self.get_buffer("kept").float()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dequantize(), self.bias)


KINDS = [
    LoRAConfig(r=3),
    LoRAConfig(r=3, dora=True),
    LoRAConfig(r=4, rslora=True, alpha=2),
    LoRAConfig(r=2, dora=True, bias="lora_only"),
    LoRAConfig(r=2, bias="all", save=("norm",)),
]


def adapted(config: LoRAConfig, base: nn.Module | None = None) -> nn.Module:
    """A net with an adapter that has learned something."""
    torch.manual_seed(0)
    model = add_lora(Net() if base is None else base, config)
    with torch.no_grad():
        for tensor in lora_state(model).values():
            tensor.add_(torch.randn_like(tensor), alpha=0.3)
    return model


def inputs() -> Tensor:
    return torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_a_new_adapter_changes_nothing(config: LoRAConfig) -> None:
    torch.manual_seed(0)
    model = Net()
    before = model(inputs())
    assert torch.allclose(add_lora(model, config)(inputs()), before, atol=1e-6)


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_merged_weights_give_what_base_and_adapter_gave_together(config: LoRAConfig) -> None:
    model = adapted(config)
    before = model(inputs())
    merge(model)
    assert torch.allclose(model(inputs()), before, atol=1e-5)
    alone = merge(copy.deepcopy(model), unload=True)
    assert torch.allclose(alone(inputs()), before, atol=1e-5)
    assert set(alone.state_dict()) == set(Net().state_dict())


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_unmerging_gives_the_unmerged_model_back_to_the_bit(config: LoRAConfig) -> None:
    model = adapted(config)
    before = model(inputs())
    unmerge(merge(model))
    assert torch.equal(model(inputs()), before)


@pytest.mark.parametrize("config", KINDS, ids=str)
def test_a_disabled_adapter_leaves_the_base_model_to_the_bit(config: LoRAConfig) -> None:
    torch.manual_seed(0)
    base = Net()
    expected = base(inputs())
    model = adapted(config, base)
    learned = model(inputs())
    with disable_adapters(model):
        assert torch.equal(model(inputs()), expected)
    assert torch.equal(model(inputs()), learned)
    assert not torch.allclose(learned, expected, atol=1e-3)


def test_only_the_adapter_is_trained_and_every_part_of_it_gets_a_gradient() -> None:
    model = adapted(LoRAConfig(r=2, dora=True, bias="all", save=("norm",)))
    model(inputs()).square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trained
    assert trained == set(lora_state(model))
    assert "up.lora_a" in trained
    assert "down.magnitude" in trained
    assert "head.copy.bias" in trained
    assert "head.copy.weight" not in trained


def test_the_gradient_is_that_of_the_product_put_into_the_weight() -> None:
    model = adapted(LoRAConfig(r=3, targets="up"))
    layer = model.get_submodule("up")
    assert isinstance(layer, LoRALinear)
    model(inputs()).square().sum().backward()
    a, b = (p.detach().clone().requires_grad_() for p in (layer.lora_a, layer.lora_b))
    plain = remove_lora(copy.deepcopy(model))
    weight = plain.get_parameter("up.weight") + layer.scale * b @ a
    torch.func.functional_call(plain, {"up.weight": weight}, inputs()).square().sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert torch.allclose(layer.lora_a.grad, a.grad, rtol=1e-4, atol=1e-5)
    assert torch.allclose(layer.lora_b.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_dropout_works_in_training_and_not_in_evaluation() -> None:
    for dora in (False, True):
        model = adapted(LoRAConfig(r=3, dropout=0.5, dora=dora))
        assert not torch.equal(model(inputs()), model(inputs()))
        model.eval()
        assert torch.equal(model(inputs()), model(inputs()))


@pytest.mark.parametrize("dora", [False, True])
def test_a_layer_that_is_not_a_torch_linear_takes_an_adapter_too(dora: bool) -> None:
    torch.manual_seed(0)
    net = Net()
    net.set_submodule("up", Halved(net.up))
    model = adapted(LoRAConfig(r=3, targets=("up",), dora=dora), net)
    before = model(inputs())
    assert torch.allclose(merge(model)(inputs()), before, atol=1e-5)


def test_the_weight_of_a_layer_that_does_not_say_it_is_found_by_running_it() -> None:
    class Silent(nn.Module):
        def __init__(self, dense: nn.Linear) -> None:
            super().__init__()
            self.in_features, self.out_features = dense.in_features, dense.out_features
            self.register_buffer("hidden", dense.weight.detach())
            self.bias = dense.bias

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.get_buffer("hidden"), self.bias)

    dense = nn.Linear(6, 4)
    assert torch.allclose(dense_weight(Silent(dense)), dense.weight, atol=1e-6)


def test_an_adapter_on_16_bit_weights_learns_in_32_bits() -> None:
    model = add_lora(Net().to(torch.bfloat16), LoRAConfig(r=2, dora=True))
    assert {tensor.dtype for tensor in lora_state(model).values()} == {torch.float32}
    assert model(inputs().bfloat16()).dtype == torch.bfloat16


def test_targets_are_names_ends_of_names_patterns_or_all() -> None:
    def chosen(*targets: str) -> list[str]:
        return [name for name, _ in adapters(add_lora(Net(), LoRAConfig(targets=targets)))]

    assert chosen("all") == ["up", "down"]
    assert chosen("up", "head") == ["up", "head"]
    assert chosen("*") == ["up", "down", "head"]


def test_ranks_and_alphas_may_differ_by_layer() -> None:
    config = LoRAConfig(r=2, alpha=4, ranks={"up": 4}, alphas={"down": 1})
    found = dict(adapters(add_lora(Net(), config)))
    assert {
        name: (layer.r, layer.scale) for name, layer in found.items() if isinstance(layer, LoRALinear)
    } == {
        "up": (4, 1.0),
        "down": (2, 0.5),
    }


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    with pytest.raises(AdapterError, match="did you mean 'down'"):
        add_lora(Net(), LoRAConfig(targets=("dwn",)))
    with pytest.raises(AdapterError, match="adapters already"):
        add_lora(adapted(LoRAConfig()), LoRAConfig())
    with pytest.raises(AdapterError, match="no adapter"):
        merge(Net())
    with pytest.raises(AdapterError, match="unmerge"), disable_adapters(merge(adapted(LoRAConfig()))):
        pass
    with pytest.raises(AdapterError, match="a rank is at least 1"):
        LoRAConfig(r=0)
