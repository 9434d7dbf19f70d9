"""Counts that no tensor bears out are refused at once: no model of that size is built to find it out."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from blixt.llm.config import MOST_LAYERS, MLASpec, ModelConfig, MoESpec
from blixt.llm.errors import ConfigError, LLMError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.convert import convert
from blixt.llm.weights.gguf import read_metadata
from blixt.llm.weights.rules import Rule, entries

SIZES: dict[str, Any] = {
    "vocab": 300, "d": 32, "layers": 2, "heads": 4, "kv_heads": 4, "d_ff": 64, "context": 64, "tie": False
}  # fmt: skip
CONFIGS = {
    "llama": ModelConfig(**SIZES),
    "mixtral": ModelConfig(**SIZES, model_type="mixtral", moe=MoESpec(experts=4, top_k=2, d_ff=64)),
    "deepseek_v3": ModelConfig(
        **SIZES,
        model_type="deepseek_v3",
        mla=MLASpec(kv_rank=16, rope_dim=8, nope_dim=8, v_dim=8, q_rank=12),
        moe=MoESpec(4, 2, 16, score="sigmoid", correction=True, shared_d_ff=16),
    ),
}
BLOWN_UP = (65538, 2**31 - 1, 2**62, -1, 0, 2.5, "12")


def sentences(path: Path) -> int:
    """Lines of the error that loading ends with; 0 when it gives a model."""
    try:
        load_checkpoint(path)
    except LLMError as error:
        return len(str(error).splitlines())
    return 0


@pytest.mark.parametrize("name", CONFIGS)
def test_any_count_of_a_config_json_blown_up_is_one_sentence_or_a_model(tmp_path: Path, name: str) -> None:
    save_checkpoint(GPT(CONFIGS[name]), tmp_path)
    whole = json.loads((tmp_path / "config.json").read_text())
    counts = [key for key, value in whole.items() if type(value) is int]
    assert {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"} <= set(counts)
    for key in counts:
        for value in (whole[key] + 1, *BLOWN_UP):
            (tmp_path / "config.json").write_text(json.dumps({**whole, key: value}))
            assert sentences(tmp_path) <= 1, (key, value)


def test_more_layers_than_the_tensors_are_numbered_for_are_told_apart(tmp_path: Path) -> None:
    save_checkpoint(GPT(CONFIGS["llama"]), tmp_path)
    whole = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**whole, "num_hidden_layers": 258}))
    with pytest.raises(WeightsError, match="holds tensors of 2 layers, its configuration asks for 258"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**whole, "num_hidden_layers": 65538}))
    with pytest.raises(ConfigError, match=rf"layers=65538\): must be a whole number from 1 to {MOST_LAYERS}"):
        load_checkpoint(tmp_path)


def test_more_experts_than_tensors_are_told_before_their_names_are_made(tmp_path: Path) -> None:
    save_checkpoint(GPT(CONFIGS["mixtral"]), tmp_path)
    whole = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**whole, "num_local_experts": 1 << 30}))
    with pytest.raises(WeightsError, match=r"holds \d+ tensors, its configuration asks for 1073741824 exp"):
        load_checkpoint(tmp_path)


def test_a_key_that_holds_another_kind_of_value_is_named(tmp_path: Path) -> None:
    whole = CONFIGS["llama"].to_hf()
    with pytest.raises(ConfigError, match="hidden_size='32': must be a whole number"):
        ModelConfig.from_hf({**whole, "hidden_size": "32"})
    with pytest.raises(ConfigError, match="rms_norm_eps=nan: must be a finite number"):
        ModelConfig.from_hf({**whole, "rms_norm_eps": float("nan")})


@pytest.fixture(scope="module")
def small(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    save_checkpoint(GPT(ModelConfig(**SIZES | {"vocab": len(tokenizer)})), path)
    tokenizer.save(path)
    return convert(path, path / "small.gguf", format="q8_0")


COUNTS = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "context_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "rope.dimension_count",
    "vocab_size",
)


@pytest.mark.parametrize("key", COUNTS)
def test_any_count_of_a_gguf_blown_up_is_one_sentence_or_a_model(
    small: Path, tmp_path: Path, key: str
) -> None:
    raw, name = small.read_bytes(), f"llama.{key}".encode()
    at = raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 4  # past the key and its type
    (present,) = struct.unpack_from("<I", raw, at)
    assert present == read_metadata(small)[f"llama.{key}"]
    for value in (0, 1, present + 1, present | 1 << 16, present | 1 << 20, 2**32 - 1):
        (tmp_path / "flip.gguf").write_bytes(raw[:at] + struct.pack("<I", value) + raw[at + 4 :])
        assert sentences(tmp_path / "flip.gguf") <= 1, value


def test_a_ggufs_65538_layers_are_refused_for_the_two_that_are_there(small: Path, tmp_path: Path) -> None:
    raw, name = bytearray(small.read_bytes()), b"llama.block_count"
    at = raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 4
    struct.pack_into("<I", raw, at, 65538)
    (tmp_path / "flip.gguf").write_bytes(raw)
    with pytest.raises(WeightsError, match="holds tensors of 2 layers, its configuration asks for 65538"):
        load_checkpoint(tmp_path / "flip.gguf")


def test_entries_of_many_layers_are_made_once_each() -> None:
    config = ModelConfig(**SIZES | {"layers": 4_000})

    class Counted(tuple[int, ...]):
        looks = 0

        def __contains__(self, layer: object) -> bool:
            type(self).looks += 1
            return super().__contains__(layer)

    rule = Rule("blocks.{i}.x", "layers.{i}.x", layers=Counted(range(4_000)))
    assert len(list(entries([rule], config))) == 4_000
    assert Counted.looks == 0  # a search of the whole list for every layer would be quadratic
