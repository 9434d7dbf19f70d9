"""Checkpoints turned into others: dtype, shards, litgpt's; SmolLM2 from GGUF is in test_gguf."""

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import convert as converting
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.convert import convert
from blixt.llm.weights.read import open_checkpoint

TOKENS = torch.arange(24).reshape(2, 12)
SIZES = {
    "block_size": 64,
    "n_layer": 2,
    "n_embd": 64,
    "n_head": 4,
    "vocab_size": 300,
    "padded_vocab_size": 320,
}
LITGPT = {
    "Llama-3.2-1B": ("llama", {"n_query_groups": 2, "head_size": 16}),
    "Qwen2.5-0.5B": ("qwen2", {"n_query_groups": 2, "head_size": 16}),
    "Qwen3-0.6B": ("qwen3", {"n_query_groups": 2, "head_size": 32}),
    "Mixtral-8x7B-v0.1": (
        "mixtral",
        {"n_query_groups": 2, "head_size": 16, "n_expert": 4},
    ),
    "OLMo-2-1124-7B": ("olmo2", {"n_query_groups": 4, "head_size": 16}),
    "pythia-14m": ("gpt_neox", {"n_query_groups": 4, "head_size": 16}),
    "phi-2": ("phi", {"n_query_groups": 4, "head_size": 16}),
    "falcon-7b": ("falcon", {"n_query_groups": 1, "head_size": 16, "intermediate_size": 256}),
    "Gemma-2-2b": (
        "gemma2",
        {"n_query_groups": 2, "head_size": 16, "attention_scores_scalar": 16},
    ),
}


@pytest.fixture(scope="module")
def directory(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hf")
    save_checkpoint(GPT(ModelConfig(vocab=len(tokenizer), d=64, layers=2, heads=4, kv_heads=2)), path)
    tokenizer.save(path)
    (path / "generation_config.json").write_text('{"temperature": 0.6}')
    return path


def test_dtype_and_shards_change_and_the_tokenizer_comes_along(directory: Path, tmp_path: Path) -> None:
    target = convert(directory, tmp_path / "new", dtype="bfloat16", max_shard_bytes=100_000)
    assert len(list(target.glob("model-*.safetensors"))) > 2
    assert json.loads((target / "config.json").read_text())["torch_dtype"] == "bfloat16"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (target / name).read_bytes() == (directory / name).read_bytes()
    before, after = load_checkpoint(directory).state_dict(), load_checkpoint(target).state_dict()
    assert all(torch.equal(after[name], before[name].bfloat16()) for name in before)


def test_progress_counts_tensors(directory: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(directory, tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]


def test_what_exists_is_not_written_over(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("x")
    (tmp_path / "x.gguf").write_text("x")
    for target in (tmp_path / "there", tmp_path / "x.gguf"):
        with pytest.raises(WeightsError, match="exists already: name another target"):
            convert(directory, target)
    with pytest.raises(WeightsError, match="GGUF is not written as 'q3_k'; take one of f32"):
        convert(directory, tmp_path / "y.gguf", format="q3_k")


@pytest.mark.parametrize("name", LITGPT)
def test_a_litgpt_checkpoint_becomes_a_model_with_the_same_logits(name: str, tmp_path: Path) -> None:
    import litgpt

    model_type, sizes = LITGPT[name]
    torch.manual_seed(0)
    config = litgpt.Config.from_name(name, **(SIZES | sizes))
    theirs = litgpt.GPT(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    torch.save(theirs.state_dict(), tmp_path / "lit_model.pth")
    fields = {key: value for key, value in vars(config).items() if key != "rope_n_elem"}
    (tmp_path / "model_config.yaml").write_text(yaml.safe_dump(fields))
    ours = load_checkpoint(convert(tmp_path, tmp_path / "new"))
    assert ours.config.model_type == model_type
    with torch.no_grad():
        expected = theirs(TOKENS)
        assert (ours(TOKENS) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_litgpt_checkpoints_that_cannot_be_read_say_why(directory: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "lit_model.pth")
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    with pytest.raises(WeightsError, match="is a litgpt checkpoint: run `blixt llm convert"):
        load_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match=r"model_config\.yaml does not exist"):
        convert(tmp_path, tmp_path / "new")
    (tmp_path / "model_config.yaml").write_text("n_embd: 8\nlatent_attention: {q_lora_rank: 4}")
    with pytest.raises(ConfigError, match=r"says latent_attention=.*, which is not read"):
        convert(tmp_path, tmp_path / "new")


class Counting:
    """A source that knows how many of the tensors it gave are still alive, in bytes."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.where, self.infos = source.where, source.infos
        self.alive: list[weakref.ref[torch.Tensor]] = []
        self.worst = 0

    def get(self, name: str) -> torch.Tensor:
        tensor = self.source.get(name).clone()
        self.alive = [ref for ref in self.alive if ref() is not None] + [weakref.ref(tensor)]
        sizes = [found.nbytes for ref in self.alive if (found := ref()) is not None]
        self.worst = max(self.worst, sum(sizes))
        return tensor

    def file_of(self, name: str) -> Path:
        return self.source.file_of(name)

    def will_need(self) -> None:
        self.source.will_need()


def test_no_more_than_a_few_tensors_are_in_memory_while_converting(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Counting] = []

    def open_counting(path: Path) -> tuple[Any, ModelConfig]:
        source, config = open_checkpoint(path)
        counted.append(Counting(source))
        return counted[-1], config

    monkeypatch.setattr(converting, "open_checkpoint", open_counting)
    for target in (tmp_path / "new", tmp_path / "new.gguf"):
        convert(directory, target, format="q8_0")
        total = sum(info.size_bytes for info in counted[-1].infos.values())
        largest = max(info.size_bytes for info in counted[-1].infos.values())
        assert largest <= counted[-1].worst <= 3 * largest < total
