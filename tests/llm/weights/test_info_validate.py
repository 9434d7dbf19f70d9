"""`info` and `validate`, as functions and as commands."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from tests.llm.smollm2 import smollm2_gguf
from tests.llm.weights.hub import Hub
from typer.testing import CliRunner

from blixt.cli.failure import CliError
from blixt.cli.llm import app
from blixt.llm.config import ModelConfig, MoESpec
from blixt.llm.model import GPT
from blixt.llm.quant import quantize, save_quantized
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import estimate as estimating
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights import validate as validating
from blixt.llm.weights.info import info
from blixt.llm.weights.validate import Wish, validate


@pytest.fixture(scope="module")
def saved(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    save_checkpoint(
        GPT(ModelConfig(vocab=len(tokenizer), d=64, layers=3, heads=4, kv_heads=2, eos=(0,))), path
    )
    tokenizer.save(path)
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def verdicts(path: Path, wish: Wish | None = None) -> dict[str, str]:
    return {finding.check: f"{finding.verdict}: {finding.text}" for finding in validate(path, wish)}


def blixt_llm(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_info_of_smollm2_is_what_is_known_of_it() -> None:
    found = info(smollm2_gguf())
    assert (found.model_type, found.context, found.vocab, found.tied) == ("llama", 8192, 49152, True)
    assert found.parameters == found.active_parameters == 134_515_008
    assert sum(part.parameters * part.count for part in found.parts) == found.parameters
    assert found.stored == {"Q4_1": 106_168_320, "Q8_0": 28_311_552, "float32": 35_136}
    assert found.cache_bytes_per_token == 30 * 2 * 3 * 64 * 2
    assert [part.name for part in found.parts] == ["embedding", "layer 0-29", "last norm"]
    assert {f.precision for f in found.footprints} == {"float32", "bfloat16", "int8", "int4"}
    full = next(f for f in found.footprints if (f.precision, f.context) == ("float32", 8192))
    assert full.memory.weights == 4 * found.parameters


def test_info_counts_the_experts_that_a_token_visits(tmp_path: Path) -> None:
    moe = MoESpec(experts=8, top_k=2, d_ff=96)
    config = ModelConfig(
        vocab=64, d=32, d_ff=96, layers=2, heads=4, kv_heads=2, model_type="mixtral", moe=moe, tie=False
    )
    save_checkpoint(GPT(config), tmp_path)
    found = info(tmp_path)
    assert found.parameters - found.active_parameters == 2 * 6 * 3 * 96 * 32
    assert "8 experts of 96, 2 at a time" in found.parts[1].kind


def test_a_sound_checkpoint_passes_every_look(saved: Path, tmp_path: Path) -> None:
    found = verdicts(saved, Wish(context=128, training=True, output=tmp_path / "out" / "of" / "run"))
    assert not [text for text in found.values() if text.startswith("failed")]
    looked_at = {"config", "tensors", "dtypes", "numbers", "checksum", "tokenizer", "end of text", "memory"}
    assert found.keys() >= looked_at | {"training memory", "disk"}
    assert found["chat template"] == "warning: there is none: messages will be joined by lines"
    assert verdicts(smollm2_gguf(), Wish(numbers=False))["chat template"] == "ok: it renders a conversation"


def test_a_nan_and_a_tensor_of_zeros_are_found(copy: Path) -> None:
    path = copy / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = torch.nan
    tensors["model.layers.2.mlp.down_proj.weight"].zero_()
    save_file(tensors, path)
    texts = [finding.text for finding in validate(copy) if finding.check == "numbers"]
    assert texts == [
        "model.layers.1.mlp.up_proj.weight holds NaN or infinite numbers",
        "model.layers.2.mlp.down_proj.weight is all zeros: was it written to its end?",
    ]


def test_one_flipped_bit_anywhere_in_the_numbers_is_found(copy: Path) -> None:
    path = copy / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1000] ^= 1
    path.write_bytes(raw)
    load_checkpoint(copy)  # it would run
    assert "its numbers changed since it was written" in verdicts(copy)["checksum"]


def test_a_truncated_file_and_a_bad_config_end_the_looking_with_a_sentence(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:-5])
    assert "is truncated" in verdicts(copy)["config and files"]
    (copy / "config.json").write_text('{"model_type": "unheard-of"}')
    assert "unheard-of" in verdicts(copy)["config and files"]


def test_a_tokenizer_that_does_not_fit_is_found(copy: Path, tokenizer: Tokenizer) -> None:
    save_checkpoint(GPT(ModelConfig(vocab=len(tokenizer) - 9, d=64, layers=1, heads=4, kv_heads=2)), copy)
    assert verdicts(copy)["tokenizer"].startswith(f"failed: it has {len(tokenizer)} tokens")
    (copy / "tokenizer.json").write_text("{")
    assert verdicts(copy)["tokenizer"].startswith("failed")


def test_an_end_of_text_outside_the_vocabulary_is_found(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"eos_token_id": 70_000}))
    assert verdicts(copy)["end of text"].startswith("failed: token 70000 ends a text")


def test_too_little_memory_and_disk_are_found(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(validating, "free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(validating.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    found = verdicts(saved, Wish(batch=4, training=True, output=tmp_path))
    assert found["memory"].startswith("failed: this model needs")
    assert "LoRA needs gradients of the adapters only" in found["training memory"]
    assert found["disk"].startswith("failed: two checkpoints take up to")


def test_the_commands_print_tables_and_json(saved: Path, tmp_path: Path) -> None:
    shown = blixt_llm("info", str(saved)).stdout + blixt_llm("validate", str(saved)).stdout
    for text in ("layer 0-2", "bfloat16", "full attention, 4/2 heads of 16", "all numbers of"):
        assert text in shown
    described = json.loads(blixt_llm("info", str(saved), "--json").stdout)
    assert described["parts"][1]["count"] == 3
    written = blixt_llm("convert", str(saved), str(tmp_path / "x.gguf"), "--format", "q8_0", "--json")
    assert json.loads(written.stdout)["bytes"] == (tmp_path / "x.gguf").stat().st_size
    looked = blixt_llm("validate", str(tmp_path / "x.gguf"), "--json")
    assert {finding["verdict"] for finding in json.loads(looked.stdout)} <= {"ok", "warning"}


def test_a_failed_look_ends_the_command_with_an_error(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"x" * 100)
    done = blixt_llm("validate", str(copy))
    assert isinstance(done.exception, CliError)
    assert f"{copy} is not ready: " in done.exception.message
    assert done.exception.exit_code == 1


def test_a_model_is_fetched_by_the_command(saved: Path, tmp_path: Path) -> None:
    with Hub("tests/tiny", {file.name: file.read_bytes() for file in saved.iterdir()}) as hub:
        words = ["tests/tiny", str(tmp_path / "m"), "--token", "none", "--endpoint", hub.url, "--json"]
        done = blixt_llm("download", *words)
    assert json.loads(done.stdout) == {"path": str(tmp_path / "m")}
    assert load_checkpoint(tmp_path / "m").config == load_checkpoint(saved).config


def test_a_quantised_model_is_described_and_looked_at_too(copy: Path) -> None:
    model = quantize(load_checkpoint(copy), "int8")
    (copy / "model.safetensors").unlink()
    save_quantized(model, copy)
    assert info(copy).stored.keys() == {"int8", "float32"}
    found = verdicts(copy)
    assert all(text.startswith(("ok", "warning")) for text in found.values()), found
    assert found["tensors"].endswith("in int8")
    assert found["checksum"].startswith("ok")
    file = copy / "quantized.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)
    assert "its numbers changed" in verdicts(copy)["checksum"]


def test_a_command_that_uses_a_model_compares_its_checksums_when_asked(copy: Path) -> None:
    words = ("generate", str(copy), "a", "--max-tokens", "1", "--verify", "--json")
    done = blixt_llm(*words)
    assert done.exit_code == 0, done.output
    assert "the numbers of 1 file are as they were written" in done.stderr
    file = copy / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)
    failed = blixt_llm(*words)
    assert isinstance(failed.exception, CliError)
    assert "its numbers changed" in str(failed.exception)
