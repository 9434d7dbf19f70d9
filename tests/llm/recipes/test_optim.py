"""Learning rates as functions of the step, and which parameter goes to which optimizer."""

import math

import pytest
import torch

from blixt.llm.config import ModelConfig
from blixt.llm.errors import RecipeError
from blixt.llm.model import GPT
from blixt.llm.recipes.optim import OptimConfig, make_optimizers, make_schedule, set_learning_rate
from blixt.llm.specs import MoESpec

CONFIG = ModelConfig(vocab=64, d=16, layers=2, heads=2, kv_heads=2, context=32, tie=False)


def rates(steps: int = 100, **options: object) -> list[float]:
    schedule = make_schedule(OptimConfig(**options), steps)  # type: ignore[arg-type]
    return [schedule(step) for step in range(steps + 1)]


def test_every_schedule_rises_to_one_and_ends_at_its_final_share() -> None:
    for name, final in (("cosine", 0.1), ("linear", 0.0), ("wsd", 0.2)):
        found = rates(schedule=name, warmup=10, final=final)
        assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
        assert found[-1] == pytest.approx(final)
        assert found[10:] == sorted(found[10:], reverse=True)


def test_cosine_is_half_way_at_half_time() -> None:
    assert rates(schedule="cosine", warmup=0, final=0.0)[50] == pytest.approx(0.5)
    assert rates(schedule="cosine", warmup=0, final=0.0)[25] == pytest.approx(0.5 + 0.5 * math.sqrt(0.5))


def test_wsd_stays_before_it_decays() -> None:
    found = rates(schedule="wsd", warmup=0.1, decay=0.2, final=0.0)
    assert found[10:81] == [1.0] * 71
    assert found[90] == pytest.approx(0.5)


def test_a_constant_schedule_does_not_fall_and_warmup_may_be_left_out() -> None:
    assert set(rates(schedule="constant", warmup=0)) == {1.0}


def test_matrices_decay_and_vectors_do_not() -> None:
    (optimizer,) = make_optimizers(GPT(CONFIG), OptimConfig(weight_decay=0.3))
    for group in optimizer.param_groups:
        assert {p.dim() >= 2 for p in group["params"]} == {group["weight_decay"] == 0.3}


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    experts = ModelConfig(
        vocab=64, d=16, layers=1, heads=2, kv_heads=2, context=32, moe=MoESpec(experts=2, top_k=1, d_ff=8)
    )
    model = GPT(experts)
    muon, adamw = make_optimizers(model, OptimConfig(name="muon"))
    assert isinstance(muon, torch.optim.Muon)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = {names[id(p)] for p in muon.param_groups[0]["params"]}
    assert taken == {f"blocks.0.attn.{leaf}.weight" for leaf in ("q", "k", "v", "out")} | {
        "blocks.0.mlp.router.weight"
    }
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert rest == set(names.values()) - taken


def test_all_groups_get_the_same_learning_rate() -> None:
    optimizers = make_optimizers(GPT(CONFIG), OptimConfig(name="muon"))
    set_learning_rate(optimizers, 0.25)
    assert {group["lr"] for optimizer in optimizers for group in optimizer.param_groups} == {0.25}


def test_a_frozen_model_and_impossible_numbers_are_refused() -> None:
    with pytest.raises(RecipeError, match="trainable"):
        make_optimizers(GPT(CONFIG).requires_grad_(False), OptimConfig())
    with pytest.raises(RecipeError, match=r"optim\.learning_rate is 0"):
        OptimConfig(learning_rate=0)
    with pytest.raises(RecipeError, match=r"optim\.betas"):
        OptimConfig(betas=(0.9,))
    with pytest.raises(RecipeError, match=r"optim\.clip is -1"):
        OptimConfig(clip=-1)
