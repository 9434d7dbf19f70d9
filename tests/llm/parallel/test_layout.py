"""Which parameter is divided how, decided by its name and the configuration alone."""

from typing import Any

import pytest
import torch

from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.errors import QuantError, RecipeError
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.model import GPT
from blixt.llm.parallel import Layout, ParallelConfig, make_strategy, plan_of
from blixt.llm.quant import quantize
from blixt.llm.specs import MLASpec, MoESpec, RopeSpec

SIZES: dict[str, Any] = {"vocab": 96, "d": 32, "layers": 1, "heads": 4, "kv_heads": 2, "context": 64}


def dims(config: ModelConfig, size: int = 2) -> dict[str, int]:
    """Every divided parameter of a model, without the block's number."""
    layout = Layout(config, size)
    names = [name for name, _ in GPT.empty(config).named_parameters()]
    found = {name: layout.dim(name) for name in names}
    return {name.removeprefix("blocks.0."): dim for name, dim in found.items() if dim is not None}


def test_a_plain_decoder_is_divided_by_heads_inner_width_and_vocabulary() -> None:
    assert dims(ModelConfig(**SIZES, tie=False, qkv_bias=True, out_bias=True)) == {
        "embed.weight": 0,
        "head.weight": 0,
        **{f"attn.{leaf}.{part}": 0 for leaf in "qkv" for part in ("weight", "bias")},
        "attn.out.weight": 1,
        "mlp.gate.weight": 0,
        "mlp.up.weight": 0,
        "mlp.down.weight": 1,
    }


def test_what_does_not_divide_stays_whole() -> None:
    assert set(dims(ModelConfig(**SIZES), 4)) == {"mlp.gate.weight", "mlp.up.weight", "mlp.down.weight"}
    assert "attn.q.weight" not in dims(ModelConfig(**SIZES, qk_norm="full"))
    assert "embed.weight" not in dims(ModelConfig(**SIZES))
    assert "mlp.up.weight" not in dims(ModelConfig(**SIZES, d_ff=99))


def test_experts_are_divided_inside_of_each() -> None:
    moe = MoESpec(experts=4, top_k=2, d_ff=24, shared_d_ff=16, expert_bias=True)
    found = dims(ModelConfig(**SIZES, moe=moe))
    assert (found["mlp.experts.gate"], found["mlp.experts.down"], found["mlp.experts.up_bias"]) == (1, 2, 1)
    assert (found["mlp.shared.up.weight"], found["mlp.shared.down.weight"]) == (0, 1)
    assert "mlp.router.weight" not in found
    assert "mlp.experts.down_bias" not in found


def test_latent_attention_keeps_its_latents_whole() -> None:
    spec = LayerSpec(attn="mla", rope=RopeSpec())
    mla = MLASpec(kv_rank=16, rope_dim=8, nope_dim=8, v_dim=8, q_rank=12)
    found = dims(ModelConfig(**{**SIZES, "kv_heads": 4}, mla=mla, layer_specs=(spec,)))
    assert {name: dim for name, dim in found.items() if name.startswith("attn")} == {
        "attn.q_b.weight": 0,
        "attn.kv_b.weight": 0,
        "attn.out.weight": 1,
    }


class Foreign(torch.nn.Module):
    """A linear layer of which nothing is known but its sizes."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.packed = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(*x.shape[:-1], self.out_features) + self.packed.sum()


def test_what_cannot_be_divided_is_refused_by_its_name() -> None:
    config = ModelConfig(**SIZES)
    with pytest.raises(RecipeError, match="divides neither heads=4"):
        plan_of(GPT.empty(config), 7)
    model = GPT(config)
    model.blocks[0].mlp.up = Foreign(config.d, config.d_ff)
    with pytest.raises(RecipeError, match=r"mlp\.up is a layer of another library"):
        plan_of(model, 2)
    with pytest.raises(RecipeError, match=r"mlp\.up has a base of another library"):
        plan_of(add_lora(model, LoRAConfig()), 2)
    with pytest.raises(RecipeError, match="trained whole"):
        plan_of(add_lora(GPT(config), LoRAConfig(targets="mlp.up", save=("attn.q",))), 2)
    moe = MoESpec(experts=4, top_k=2, d_ff=24)
    mixture = GPT(ModelConfig(**SIZES, moe=moe, layer_specs=(LayerSpec(mlp="moe"),)))
    with pytest.raises(RecipeError, match=r"mlp\.experts has an adapter, which cannot be divided"):
        plan_of(add_lora(mixture, LoRAConfig(targets="experts")), 2)


@pytest.mark.parametrize("scheme", ["int8", "int8-dynamic", "int4", "nf4", "fp8"])
def test_parts_of_a_quantised_layer_are_the_layer(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blixt.llm.quant.nf4._bitsandbytes", lambda: False)  # its import takes seconds
    linear = torch.nn.Linear(256, 32)

    def layer() -> Any:
        return quantize(torch.nn.Sequential(linear), scheme)[0]

    x, whole = torch.randn(3, 256), layer().dequantize()
    for dim in (0, 1):
        parts = [layer() for _ in range(2)]
        for number, part in enumerate(parts):
            part.keep_part(dim, number, 2)
            assert part(x if dim == 0 else x[:, :128]).shape == (3, 16 if dim == 0 else 32)
        assert torch.equal(torch.cat([part.dequantize() for part in parts], dim), whole)
    assert torch.equal(torch.cat([part.bias for part in parts[:1]]), linear.bias)


def test_scales_that_parts_would_share_are_refused() -> None:
    for scheme, width, parts in (("nf4", 64, 2), ("int4", 32, 2)):
        layer = quantize(torch.nn.Sequential(torch.nn.Linear(width, 32)), scheme)[0]
        with pytest.raises(QuantError, match=f"{scheme} shares scales among .* does not divide among 2"):
            layer.keep_part(1, 0, parts)


def test_numbers_of_a_recipe_become_a_strategy() -> None:
    kinds = {
        "auto": ParallelConfig(),
        "ddp": ParallelConfig(strategy="ddp"),
        "FSDPStrategy": ParallelConfig(replicas=2),
        "ParallelStrategy": ParallelConfig(tp=2),
    }
    for kind, parallel in kinds.items():
        made = make_strategy(parallel)
        assert kind in (made, type(made).__name__)
    with pytest.raises(RecipeError, match=r"parallel\.tp is 0"):
        ParallelConfig(tp=0)
    with pytest.raises(RecipeError, match="use fsdp"):
        ParallelConfig(strategy="ddp", cp=2)


def test_a_plan_changes_nothing_before_it_is_applied() -> None:
    config = ModelConfig(**SIZES, tie=False)
    model = GPT(config)
    tokens = torch.arange(8).view(1, 8)
    before = model(tokens)
    assert len(plan_of(model, 2)) == 9
    assert torch.equal(model(tokens), before)
