"""An adapter on every family: written here and run by peft, written by peft and run here: equal logits."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.llm.families.cases import CASES, cases_of
from tests.llm.families.oracle import build

from blixt.llm.lora import LoRAConfig, add_lora, load_peft, lora_state, save_peft
from blixt.llm.weights import load_checkpoint

FAMILIES = {CASES[name].kind: name for name in reversed(cases_of(5)) if CASES[name].wrapped is None}
TOKENS = torch.arange(3, 27).view(2, 12)


def of_all(has_experts: bool) -> tuple[str, ...]:
    """Everything; beside experts peft 0.21 takes dense `up_proj` and `gate_proj` for theirs."""
    return ("attn.*", "experts", "router") if has_experts else ("all",)


@pytest.mark.parametrize("kind", FAMILIES)
@torch.no_grad()
def test_adapters_of_every_family_go_both_ways(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = build(CASES[FAMILIES[kind]])
    base.save_pretrained(tmp_path / "base")
    plain = base(TOKENS).logits
    model = load_checkpoint(tmp_path / "base", copy=True)
    add_lora(model, LoRAConfig(r=4, alpha=8, targets=of_all(model.config.moe is not None)))
    for parameter in lora_state(model).values():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    save_peft(model, tmp_path / "ours")
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "ours")).eval()
    expected = theirs(TOKENS).logits
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_peft(load_checkpoint(tmp_path / "base"), tmp_path / "theirs")
    bound = 1e-5 * expected.abs().max()
    assert (model(TOKENS) - expected).abs().max() < bound
    assert (again(TOKENS) - expected).abs().max() < bound
    assert (expected - plain).abs().max() > 1e4 * bound
