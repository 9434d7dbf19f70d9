"""`LLM.load` and its arguments, and `blixt llm bench`, on a checkpoint of a small model."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from blixt.cli.llm import app
from blixt.llm.api import LLM
from blixt.llm.errors import ConfigError, LLMError, TooLittleMemoryError
from blixt.llm.lora import LoRAConfig, add_lora, save_peft
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import estimate as estimating
from blixt.llm.weights import load_checkpoint, save_checkpoint

PROMPTS = ["def f", "import os", "class A:"]


@pytest.fixture(scope="module")
def directory(model: GPT, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(model, folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def expected(llm: LLM) -> list[str]:
    return [answer.text for answer in llm.generate(PROMPTS, temperature=0, max_tokens=16)]


def test_what_is_loaded_writes_the_same(directory: Path, expected: list[str]) -> None:
    answers = LLM.load(directory).generate(PROMPTS, temperature=0, max_tokens=16)
    assert [answer.text for answer in answers] == expected


def test_saved_again_after_it_has_run_it_is_the_same(
    directory: Path, expected: list[str], tmp_path: Path
) -> None:
    first = LLM.load(directory)
    first.generate(PROMPTS * 3, temperature=0, max_tokens=16)  # weights were laid out anew meanwhile
    first.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (directory / "model.safetensors").read_bytes()
    again = LLM.load(tmp_path).generate(PROMPTS, temperature=0, max_tokens=16)
    assert [answer.text for answer in again] == expected


def test_guessing_by_ngrams_or_by_a_draft_model_changes_nothing(directory: Path, expected: list[str]) -> None:
    for speculate in ("ngram", str(directory)):
        llm = LLM.load(directory, speculate=speculate, speculate_tokens=3)
        answers = llm.generate(PROMPTS, temperature=0, max_tokens=16)
        assert [answer.text for answer in answers] == expected
    stats = llm.engine.stats().speculation
    assert stats is not None
    assert stats.accepted == stats.proposed > 0, "a draft model that is the model itself is always right"


def test_an_adapter_speaks_when_it_is_asked_for(directory: Path, expected: list[str], tmp_path: Path) -> None:
    tuned = load_checkpoint(directory, copy=True)
    add_lora(tuned, LoRAConfig(r=4))
    torch.manual_seed(0)
    for name, parameter in tuned.named_parameters():
        if "lora" in name.lower() or name.endswith((".a", ".b")):
            parameter.data.normal_()
    save_peft(tuned, tmp_path)
    llm = LLM.load(directory, adapters={"other": tmp_path})
    plain = llm.generate(PROMPTS, temperature=0, max_tokens=16)
    adapted = llm.generate(PROMPTS, temperature=0, max_tokens=16, adapter="other")
    assert [answer.text for answer in plain] == expected
    assert [answer.text for answer in adapted] != expected


def test_a_precision_and_a_quantisation_can_be_chosen(directory: Path) -> None:
    assert LLM.load(directory, dtype="bfloat16").model.embed.weight.dtype == torch.bfloat16
    quantised = LLM.load(directory, quantize="int8")
    assert quantised.generate("def f", temperature=0, max_tokens=4).completion_tokens == 4


def test_impossible_arguments_are_named(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no setting 'max_bach'; it has max_batch"):
        LLM.load(directory, max_bach=3)
    with pytest.raises(LLMError, match="does not exist"):
        LLM.load(tmp_path / "nothing")
    with pytest.raises(LLMError, match="int3"):
        LLM.load(directory, quantize="int3")


def test_the_command_prints_rates_or_json(directory: Path) -> None:
    arguments = ["bench", str(directory), "--prompt-tokens", "8", "--max-tokens", "4", "--rounds", "1"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "tokens/s generated" in shown.output
    facts = json.loads(CliRunner().invoke(app, [*arguments, "--batch", "2", "--json"]).output)
    assert facts["tokens_per_s"] > 0


def test_memory_is_checked_for_what_the_engine_is_asked_to_hold(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "free_bytes", lambda device: 4_000_000)
    LLM.load(directory, kv_bytes=200_000)
    with pytest.raises(
        TooLittleMemoryError, match=r"5\.00 MB of keys and values.*kv_bytes of \d\.\d\d MB at"
    ):
        LLM.load(directory, kv_bytes=5_000_000)
    monkeypatch.setattr(estimating, "free_bytes", lambda device: 100_000)
    with pytest.raises(TooLittleMemoryError, match=r"for 1 x 32 tokens, .* to compute"):
        LLM.load(directory, context=32)


def test_more_blocks_than_memory_are_refused_with_what_would_fit(directory: Path) -> None:
    with pytest.raises(TooLittleMemoryError, match=r"blocks=\d+: so many .* GB free; about \d+ would fit"):
        LLM.load(directory, blocks=10**12).generate([1, 2])
