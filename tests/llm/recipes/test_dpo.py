import argparse
import inspect
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.llm.recipes.small import run_and_kill, small_model, source_lines, write_rows

from blixt.llm import LLM, LLMError
from blixt.llm.attention import Packed
from blixt.llm.data import Encoded, PackedBlock, load_examples, pack, split, stack, tokenize
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.model import GPT
from blixt.llm.recipes.config_files import hub
from blixt.llm.recipes.dpo import DPOConfig, dpo
from blixt.llm.recipes.dpo_data import with_mismatches
from blixt.llm.recipes.dpo_model import Loss, PreferenceModel, make_pair_loss, means
from blixt.llm.recipes.training import micro_batches
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint

QUICK: dict[str, Any] = {
    "max_length": 96,
    "batch_size": 8,
    "steps": 20,
    "val_fraction": 0.2,
    "optim.learning_rate": 2e-3,
    "parallel.devices": 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What follows a line of Python, and the same words shouted."""
    lines = source_lines(textwrap, argparse)[:260]
    rows = [{"prompt": f"{a}\n", "chosen": b, "rejected": b.upper()} for a, b in pairwise(lines)]
    return write_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl", rows)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "simpo", "orpo", "kto"])
def test_every_loss_raises_the_margin_of_pairs_it_has_not_seen(
    loss: str, model: Path, pairs: Path, tmp_path: Path
) -> None:
    found = dpo(model, pairs, out=str(tmp_path / "out"), loss=loss, **QUICK)
    assert found["steps"] == 20
    assert found["margin"] > found["first_margin"] + 0.001
    if loss == "kto":  # its own accuracy judges answers one by one, against the reference point
        assert found["accuracy"] > found["first_accuracy"]
        found = pairs_in_order(model, tmp_path / "out", pairs)
    assert found["accuracy"] > 0.9


def pairs_in_order(before: Path, after: Path, pairs: Path) -> dict[str, float]:
    """What DPO's measure says of a trained model, on the pairs that its training held out."""
    tokenizer = Tokenizer.load(before)
    _, held_out = split(load_examples(pairs), QUICK["val_fraction"], seed=0)
    blocks = pack(tokenize(held_out, tokenizer, 96).units, 192, shuffle=False)
    block = stack([blocks.block(0, i) for i in range(blocks.count(0))])
    judge = make_pair_loss("dpo", 0.1, 1, 0)
    whole = PreferenceModel(load_checkpoint(after), load_checkpoint(before), "dpo", judge, 0.1)
    with torch.no_grad():
        return means(whole(block))


def test_all_weights_train_beside_a_frozen_copy(model: Path, pairs: Path, tmp_path: Path) -> None:
    found = dpo(model, pairs, out=str(tmp_path / "out"), adapt="full", **QUICK)
    assert found["first_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert found["margin"] > 0.2
    assert found["loss"] < 0.6
    trained = load_checkpoint(tmp_path / "out")
    assert not torch.equal(trained.embed.weight, load_checkpoint(model).embed.weight)


def test_an_adapter_is_written_that_serves_and_merges(model: Path, pairs: Path, tmp_path: Path) -> None:
    dpo(model, pairs, out=str(tmp_path / "adapter"), merge=False, **QUICK)
    assert (tmp_path / "adapter" / "adapter" / "adapter_config.json").is_file()
    dpo(model, pairs, out=str(tmp_path / "merged"), **QUICK)
    merged = LLM.load(tmp_path / "merged")
    assert merged.generate("def ", max_tokens=4, temperature=0) is not None
    assert not load_file(tmp_path / "merged" / "model.safetensors").keys() & {"lora_a"}


def packed_pairs(model: Path, pairs: Path) -> Any:
    tokenized = tokenize(load_examples(pairs, limit=9), Tokenizer.load(model), 96)
    blocks = pack(tokenized.units, 192, shuffle=False)
    return tokenized.units, stack([blocks.block(0, i) for i in range(blocks.count(0))])


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
def test_packed_pairs_have_the_logprobs_that_each_answer_has_alone(
    loss: Loss, model: Path, pairs: Path
) -> None:
    units, block = packed_pairs(model, pairs)
    gpt = add_lora(load_checkpoint(model), LoRAConfig())
    whole = PreferenceModel(gpt, None, loss, make_pair_loss(loss, 0.1, 1, 0), 0.1)  # type: ignore[arg-type]
    found = whole.logprobs(gpt, block)[whole.units(block)]  # type: ignore[arg-type]
    alone = []
    for unit in units:
        for document in unit:
            ids = torch.tensor(document.ids[None, :-1], dtype=torch.long)
            logits = gpt(ids, Packed(torch.zeros_like(ids))).log_softmax(-1)[0]
            each = logits.gather(-1, torch.tensor(document.ids[1:, None], dtype=torch.long))[:, 0]
            each = each[torch.tensor(document.mask[1:])]
            alone.append(each.mean() if loss == "ipo" else each.sum())
    # Without shuffling, blocks hold the pairs in some order: compare as sets.
    expected = torch.stack(alone).view(-1, 2)
    order, other = found[:, 0].argsort(), expected[:, 0].argsort()
    torch.testing.assert_close(found[order], expected[other], rtol=1e-4, atol=1e-4)


def test_adapters_switched_off_are_the_reference_and_begin_at_log_2(model: Path, pairs: Path) -> None:
    _, block = packed_pairs(model, pairs)
    policy = load_checkpoint(model, copy=True)
    add_lora(policy, LoRAConfig())
    whole = PreferenceModel(policy, None, "dpo", make_pair_loss("dpo", 0.1, 1.0, 0.0), 0.1)
    facts = means(whole(block).detach())
    assert facts["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert facts["pairs"] == 9
    for name, parameter in policy.named_parameters():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(parameter, std=0.2)
    changed = whole(block).detach()
    frozen = PreferenceModel(policy, load_checkpoint(model), "dpo", make_pair_loss("dpo", 0.1, 1, 0), 0.1)
    torch.testing.assert_close(frozen(block).detach(), changed)
    assert means(changed)["loss"] != pytest.approx(0.6931, abs=1e-3)


def test_an_empty_batch_has_no_loss_and_a_gradient_for_every_weight(model: Path, pairs: Path) -> None:
    from blixt.llm.data import empty_block

    policy = load_checkpoint(model, copy=True)
    add_lora(policy, LoRAConfig())
    whole = PreferenceModel(policy, None, "dpo", make_pair_loss("dpo", 0.1, 1.0, 0.0), 0.1)
    facts = whole(stack([empty_block(32)]))
    facts[0].backward()
    assert not facts.detach().any()


def test_ktos_loss_of_a_packed_batch_is_the_formula_on_each_answer_alone(model: Path, pairs: Path) -> None:
    tokenized = tokenize(load_examples(pairs, limit=5), Tokenizer.load(model), 96)
    units = with_mismatches(tokenized.units, 96)
    blocks = pack(units, 192, shuffle=False)
    block = stack([blocks.block(0, i) for i in range(blocks.count(0))])
    policy, reference = load_checkpoint(model).double(), load_checkpoint(model, copy=True).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in reference.parameters():  # it knows less of every answer, so that z0 is above zero
            parameter.add_(torch.randn_like(parameter), alpha=0.5)

    def logprob(gpt: GPT, document: Encoded) -> torch.Tensor:
        ids = torch.tensor(document.ids[None, :-1], dtype=torch.long)
        targets = torch.tensor(document.ids[1:, None], dtype=torch.long)
        each = gpt(ids).log_softmax(-1)[0].gather(-1, targets)[:, 0]
        return each[torch.tensor(document.mask[1:])].sum()

    with torch.no_grad():
        documents = [[document for document in unit if len(document.ids)] for unit in units]
        ratios = torch.tensor(
            [[logprob(policy, d) - logprob(reference, d) for d in unit] for unit in documents]
        )
        zero = ratios[:, 1].mean().clamp(min=0)
        signs = torch.tensor([1.0 if len(unit[0].ids) else -1.0 for unit in units])
        losses = torch.where(signs > 0, 3.0, 0.5) * (1 - torch.sigmoid(0.2 * signs * (ratios[:, 0] - zero)))
        whole = PreferenceModel(policy, reference, "kto", make_pair_loss("kto", 0.2, 1, 0), 0.2, (3.0, 0.5))
        found = whole(block)
    assert zero > 0
    assert float(found[0]) == pytest.approx(float(losses.sum()), rel=1e-5)
    assert means(found)["pairs"] == len(units) == 10
    assert_parts_share_a_reference_point(whole, block, found, zero)


def assert_parts_share_a_reference_point(
    whole: PreferenceModel, block: PackedBlock, found: torch.Tensor, zero: torch.Tensor
) -> None:
    """However a batch is divided, among micro-batches or ranks, its loss is that of the whole."""
    parts = micro_batches(block, 1)
    assert len(parts) > 1
    assert whole.reference_point([block]) is None, "a single block finds it on its way"
    shared = whole.reference_point(parts)
    assert shared is not None
    assert float(shared) == pytest.approx(float(zero))
    with torch.no_grad():
        torch.testing.assert_close(torch.stack([whole(part, shared) for part in parts]).sum(0), found)
        sums: list[torch.Tensor] = []
        whole.add_up = lambda own: sums.append(own) or own
        alone = torch.stack([whole(part) for part in parts]).sum(0)
        assert not torch.allclose(alone, found), "each part's own point is another"
        whole.add_up = lambda own: torch.stack(sums).sum(0)  # as if each part were a rank's
        torch.testing.assert_close(torch.stack([whole(part) for part in parts]).sum(0), found)


def test_ktos_mismatched_answers_belong_to_other_prompts(model: Path, pairs: Path) -> None:
    tokenizer = Tokenizer.load(model)
    units = tokenize(load_examples(pairs, limit=4), tokenizer, 96).units
    prompts = [tuple(unit[0].ids[~unit[0].mask].tolist()) for unit in units]
    answers = [tuple(unit[0].ids[unit[0].mask].tolist()) for unit in units]
    made = with_mismatches(units, 96)
    assert len(made) == 8
    for i, (wanted, unwanted, mixed) in enumerate(made):
        assert (len(wanted.ids) > 0) == (i % 2 == 0) == (len(unwanted.ids) == 0)
        prompt = tuple(mixed.ids[~mixed.mask].tolist())
        assert prompt == prompts[i // 2]
        if i % 2 == 0:
            assert tuple(mixed.ids[mixed.mask].tolist()) == answers[(i // 2 + 1) % 4]


def test_a_run_that_is_killed_goes_on_bit_for_bit(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**QUICK, "model": str(model), "data": str(pairs), "checkpoint.every": 3, "log.every": 1}
    settings |= {"steps": 9, "lora.dropout": 0.1, "micro_batch_size": 4}
    settings |= {"log.prompts": ["def "], "log.sample_tokens": 3}
    whole = dpo(**settings, out=str(tmp_path / "whole"))
    said = capsys.readouterr().err
    assert all(f"step {step}/9  sample 'def ' ->" in said for step in (0, 9))
    resumed = {**settings, "out": str(tmp_path / "resumed")}
    run_and_kill("blixt.llm.recipes.dpo:dpo", resumed, step=5)
    again = dpo(**resumed)
    assert again == whole
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_settings_that_cannot_work_are_told(model: Path, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="beta must be above 0"):
        DPOConfig(model="m", data="d", beta=0)
    with pytest.raises(RecipeError, match="there is no setting 'betta'; did you mean 'beta'"):
        dpo(model, pairs, betta=0.1)
    with pytest.raises(RecipeError, match="quantize=nf4 needs frozen weights"):
        dpo(model, pairs, out=str(tmp_path), quantize="nf4", adapt="full", **{"parallel.devices": 1})
    text = write_rows(tmp_path / "text.jsonl", [{"text": "no pairs"}])
    with pytest.raises(LLMError, match="field 'prompt' is missing"):
        dpo(model, text, out=str(tmp_path), data_kind="preference", **QUICK)


def test_the_hub_has_recipes_of_it_that_can_be_read() -> None:
    from blixt.llm.recipes.config import read

    names = [name for name in hub() if name.startswith("dpo/")]
    assert names
    for name in names:
        assert read(DPOConfig, ["--config", name, "--data", "x"]).recipe == "dpo"


def test_the_recipe_is_short_enough_to_be_read() -> None:
    import blixt.llm.recipes.dpo as recipe

    assert len(inspect.getsource(recipe).splitlines()) <= 250
