"""`blixt llm finetune`, `merge` and the settings of `pretrain`, as people type them."""

import json
import json.decoder
from pathlib import Path

import pytest
import yaml
from tests.llm.recipes.small import small_model, source_lines, write_rows

from blixt.cli.main import run_command_line
from blixt.llm import LLM


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base"))


def test_a_model_is_finetuned_and_its_adapter_merged_again(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"prompt": line[:8], "completion": line[8:]} for line in source_lines(json.decoder)]
    data = write_rows(tmp_path / "lines.jsonl", lines)
    words = ["llm", "finetune", "--model", str(base), "--data", str(data), "--out", str(tmp_path / "out")]
    quick = ["--steps", "2", "--batch-size", "2", "--block_size=64", "--lora.r", "2", "--json"]
    assert run_command_line([*words, *quick]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    merged = tmp_path / "merged"
    assert run_command_line(["llm", "merge", str(base), str(tmp_path / "out" / "adapter"), str(merged)]) == 0
    assert "The merged model is in" in capsys.readouterr().err
    assert LLM.load(merged).generate("def ", max_tokens=2, temperature=0).text


def test_help_lists_every_setting_and_the_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["llm", "finetune", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--lora.targets  (str|" in said
    assert "--optim.learning_rate  (float; 0.0002)" in said
    assert "finetune/smollm2-lora" in said
    assert "pretrain/stdlib" not in said


def test_resolved_settings_are_printed_as_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["llm", "finetune", "--config", "finetune/smollm2-lora", "--lora.r", "3", "--print-config"]
    assert run_command_line(words) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["recipe"], shown["lora"]["r"], shown["lora"]["alpha"]) == ("finetune", 3, 32.0)


def test_pretrain_takes_todays_options_and_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["llm", "pretrain", "tokens", "--steps", "7", "--learning-rate", "0.5", "--devices", "2"]
    more = ["--val-every", "3", "--optim.name", "muon", "--model", "{layers: 1}", "--print-config"]
    assert run_command_line([*words, *more]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["data"], shown["steps"], shown["model"]) == ("tokens", 7, {"layers": 1})
    assert shown["optim"]["learning_rate"] == 0.5
    assert shown["optim"]["name"] == "muon"
    assert shown["parallel"]["devices"] == 2
    assert shown["checkpoint"]["every"] == shown["val_every"] == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["llm", "finetune", "--modl", "x"], "did you mean 'model'"),
        (["llm", "finetune", "--config", "finetune/smolm2-lora"], "did you mean 'finetune/smollm2-lora'"),
        (["llm", "finetune", "--config", "pretrain/stdlib"], "run `blixt llm pretrain --config"),
        (["llm", "finetune", "--model", "x"], "data is not set"),
        (["llm", "merge", "nowhere", "nowhere", "out"], "nowhere"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command_line(words) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
