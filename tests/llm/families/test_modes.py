"""Every family in every way of computing it: causal, in uneven batches, packed, compiled, in bfloat16."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.llm.families import parity
from tests.llm.families.cases import cases_of
from tests.llm.families.parity import TOLERANCE, gap, loaded, reference, tensors
from torch import Tensor

from blixt.llm import Engine, EngineConfig, Sampling, load_checkpoint, save_checkpoint
from blixt.llm.attention import Packed
from blixt.llm.families import family_of
from blixt.llm.weights.rules import apply, invert

every_family = pytest.mark.parametrize("case", cases_of(5))


@every_family
def test_the_last_token_moves_no_logits_before_it(case: str, lane5: Path) -> None:
    parity.assert_causal(lane5 / case)


@every_family
def test_rows_of_different_lengths_share_a_cache(case: str, lane5: Path) -> None:
    parity.assert_cache_of_uneven_rows(lane5 / case)


@every_family
@torch.no_grad()
def test_packed_documents_are_what_they_are_alone(case: str, lane5: Path) -> None:
    model, known = loaded(lane5 / case), reference(lane5 / case)
    row, lengths = known["long"][0], (19, 1, 7, 13)
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    together = model(row[None], Packed(documents[None]))[0].split(lengths)
    for packed, document in zip(together, row.split(lengths), strict=True):
        assert gap(packed, model(document[None])[0]) < TOLERANCE


@every_family
def test_gradients_of_packed_documents_are_those_of_each_alone(case: str, lane5: Path) -> None:
    model, row = load_checkpoint(lane5 / case / "model", copy=True), reference(lane5 / case)["long"][0]
    model.requires_grad_()
    documents = torch.tensor([0] * 21 + [1] * 19)
    weights = torch.randn(40, model.config.vocab, generator=torch.Generator().manual_seed(0))
    (model(row[None], Packed(documents[None]))[0] * weights).sum().backward()
    together = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for part, weight in zip(row.split([21, 19]), weights.split([21, 19]), strict=True):
        (model(part[None])[0] * weight).sum().backward()
    largest = max(gradient.abs().max().item() for gradient in together.values())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert (together[name] - parameter.grad).abs().max().item() < TOLERANCE * largest, name


@every_family
def test_rules_give_back_the_very_tensors_they_took(case: str, lane5: Path) -> None:
    model, theirs = loaded(lane5 / case), tensors(lane5 / case / "model")
    rules = family_of(model.config.model_type).rules(model.config)
    random = {name: torch.randn_like(tensor).bfloat16() for name, tensor in theirs.items()}
    ours = apply(rules, random, model.config)
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in model.state_dict().items()}
    text = {name.removeprefix("language_model."): tensor for name, tensor in random.items()}
    assert all(torch.equal(tensor, text[name]) for name, tensor in invert(rules, ours, model.config).items())


@every_family
def test_a_model_saved_in_bfloat16_is_as_exact_in_it_as_transformers(
    case: str, lane5: Path, tmp_path: Path
) -> None:
    save_checkpoint(load_checkpoint(lane5 / case / "model", dtype="bfloat16"), tmp_path)
    model = load_checkpoint(tmp_path)
    kept = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    assert all(name.endswith("router.correction") for name in kept), "only this stays in float32"
    known = reference(lane5 / case)
    with torch.no_grad():
        logits = model(known["long"])
    assert logits.dtype == torch.bfloat16
    ours, theirs = (distance(found, known["long.rounded"]) for found in (logits, known["long.bfloat16"]))
    # Of near ties rounding chooses other experts, which moves the logits by more than rounding itself.
    assert ours < 1.5 * theirs + (0.1 if model.config.moe else 0)


def distance(found: Tensor, exact: Tensor) -> float:
    """The error of logits as a share of their size, both as root mean squares."""
    return ((found.float() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("case", ["gemma2", "qwen3-moe"])
def test_compiled_and_not_are_the_same(case: str, lane5: Path) -> None:
    # Block by block, as the recipes do it: a graph for each kind of layer.
    model, known = load_checkpoint(lane5 / case / "model"), reference(lane5 / case)
    for block in model.blocks:
        block.compile(dynamic=False)
    with torch.no_grad():
        assert gap(model(known["long"]), known["long.logits"]) < TOLERANCE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@torch.no_grad()
def test_logits_and_engine_on_a_gpu_are_those_of_transformers(lane5: Path) -> None:
    for case in cases_of(5):
        model, known = load_checkpoint(lane5 / case / "model", device="cuda"), reference(lane5 / case)
        for name in ("short", "long", "batch"):
            assert gap(model(known[name].cuda()).cpu(), known[f"{name}.logits"]) < 1e-4, (case, name)
        engine = Engine(model, None, EngineConfig(max_batch=2))
        engine.add(
            known["greedy.prompt"][0].tolist(), Sampling(temperature=0, max_tokens=12, ignore_eos=True)
        )
        found: list[int] = []
        while engine.has_work:
            found += [token for update in engine.step() for token in update.tokens]
        assert found == known["greedy"][0].tolist(), case


@torch.no_grad()
def test_experts_in_mxfp4_are_read(more: Path) -> None:
    model, known = loaded(more / "gpt-oss-mxfp4"), reference(more / "gpt-oss-mxfp4")
    assert gap(model(known["long"]), known["long.logits"]) < TOLERANCE


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("gpt2", lambda name: name.removeprefix("transformer.")),
        ("gemma3-wrapped", lambda name: name.replace("language_model.model.", "model.language_model.")),
        ("mistral3-wrapped", lambda name: name.replace("language_model.lm_head.", "lm_head.")),
    ],
)
def test_other_beginnings_of_names_are_read(
    case: str, change: Callable[[str], str], lane5: Path, tmp_path: Path
) -> None:
    stored = {change(name): tensor for name, tensor in tensors(lane5 / case / "model").items()}
    stored["h.0.attn.bias" if case == "gpt2" else "model.layers.0.self_attn.rotary_emb.inv_freq"] = (
        torch.ones(3)
    )
    save_file(stored, tmp_path / "model.safetensors")
    shutil.copy(lane5 / case / "model" / "config.json", tmp_path)
    model, known = load_checkpoint(tmp_path), reference(lane5 / case)
    with torch.no_grad():
        assert gap(model(known["long"]), known["long.logits"]) < TOLERANCE


@pytest.mark.parametrize("case", ["deepseek-v3", "glm4-moe"])
def test_layers_that_draft_further_tokens_are_passed_over(case: str, lane5: Path, tmp_path: Path) -> None:
    stored, layers = tensors(lane5 / case / "model"), loaded(lane5 / case).config.layers
    stored[f"model.layers.{layers}.eh_proj.weight"] = torch.ones(4)
    save_file(stored, tmp_path / "model.safetensors")
    shutil.copy(lane5 / case / "model" / "config.json", tmp_path)
    assert load_checkpoint(tmp_path).config.layers == layers
