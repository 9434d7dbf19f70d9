"""GGUF read and written: SmolLM2's own file, every number format, damaged files, names llama.cpp knows."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.llm.smollm2 import CONTINUATIONS, smollm2_dir, smollm2_gguf
from tests.llm.weights.gguf_sizes import BASE

from blixt.llm.cache import KVCache
from blixt.llm.config import LayerSpec, MLASpec, ModelConfig, MoESpec, RopeSpec
from blixt.llm.errors import ConfigError, LLMError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.convert import convert
from blixt.llm.weights.gguf import read_metadata
from blixt.llm.weights.gguf.archs import written_as
from blixt.llm.weights.gguf.describe import describe
from blixt.llm.weights.gguf.encode import FORMATS
from blixt.llm.weights.gguf.names import gguf_rules
from blixt.llm.weights.gguf.read import GGUFFile, open_gguf
from blixt.llm.weights.gguf.rope import rope_scaling
from blixt.llm.weights.gguf.write import Announced, write_gguf
from blixt.llm.weights.place import targets
from blixt.llm.weights.rules import entries

TOKENS = torch.arange(24).reshape(2, 12) + 3
FULL, LOCAL = LayerSpec(rope=RopeSpec(base=1e6)), LayerSpec("sliding", 8, rope=RopeSpec())
LONGROPE = RopeSpec(
    "longrope",
    factor=4.0,
    original_context=16,
    short_factors=tuple(1.0 + 0.1 * i for i in range(8)),
    long_factors=tuple(1.0 + i for i in range(8)),
)


def likeliest(model: GPT, ids: list[int], count: int) -> list[int]:
    cache, new, written = KVCache(model.config, 1, model.embed.weight, 64), ids, list[int]()
    with torch.inference_mode():
        for _ in range(count):
            new = [int(model(torch.tensor([new]), cache)[0, -1].argmax())]
            written += new
    return written


@pytest.fixture(scope="module")
def smollm2() -> GPT:
    return load_checkpoint(smollm2_gguf())


@pytest.fixture(scope="module")
def reader() -> gguf.GGUFReader:
    return gguf.GGUFReader(smollm2_gguf())


@pytest.fixture(scope="module")
def small(directory: Path) -> Path:
    return convert(directory, directory / "small.gguf", format="q8_0")


def test_smollm2_from_its_gguf_continues_as_measured(smollm2: GPT) -> None:
    tokenizer = Tokenizer.load(smollm2_gguf())
    for prompt, continuation in CONTINUATIONS.items():
        assert tokenizer.decode(likeliest(smollm2, tokenizer.encode(prompt), 16)) == continuation


def test_smollm2_dequantised_is_what_the_gguf_package_makes_of_it(
    smollm2: GPT, reader: gguf.GGUFReader
) -> None:
    theirs = {tensor.name: tensor for tensor in reader.tensors}["blk.7.ffn_up.weight"]
    expected = gguf.quants.dequantize(theirs.data, theirs.tensor_type)
    assert np.array_equal(smollm2.blocks[7].mlp.up.weight.detach().numpy(), expected)


def test_smollm2_written_back_as_q4_1_is_the_same_file_tensor_by_tensor(tmp_path: Path) -> None:
    convert(smollm2_dir(), tmp_path / "again.gguf", format="q4_1")
    ours, theirs = GGUFFile(tmp_path / "again.gguf"), GGUFFile(smollm2_gguf())
    assert ours.infos == theirs.infos
    for name, info in theirs.infos.items():
        plain = info.stored == "float32"
        read = [file.get(name) if plain else file.blocks(name) for file in (ours, theirs)]
        assert torch.equal(*read), name
    for key in ("tokens", "token_type", "merges", "model", "pre", "bos_token_id", "eos_token_id"):
        assert ours.metadata[f"tokenizer.ggml.{key}"] == theirs.metadata[f"tokenizer.ggml.{key}"]
    assert ours.metadata["tokenizer.chat_template"] == theirs.metadata["tokenizer.chat_template"]


def test_metadata_are_the_ones_the_gguf_package_reads(reader: gguf.GGUFReader) -> None:
    ours, theirs = read_metadata(smollm2_gguf()), reader.fields
    assert ours.keys() == {name for name in theirs if not name.startswith("GGUF.")}
    for name, value in ours.items():
        if not isinstance(value, list):
            read = theirs[name].contents()
            assert value == (pytest.approx(read, rel=1e-7) if isinstance(value, float) else read)
    assert ours["tokenizer.ggml.tokens"][:100] == theirs["tokenizer.ggml.tokens"].contents(slice(0, 100))


def test_plain_tensors_are_mapped_and_none_is_read_for_a_shape(directory: Path, tmp_path: Path) -> None:
    file = GGUFFile(convert(directory, tmp_path / "plain.gguf", format="bf16"))
    assert file.infos["blk.0.ffn_up.weight"].dtype == torch.bfloat16
    base = file.get("blk.0.ffn_up.weight").untyped_storage().data_ptr()
    assert file.get("blk.0.ffn_up.weight").untyped_storage().data_ptr() == base


def configs() -> dict[str, ModelConfig]:
    moe = MoESpec(experts=4, top_k=2, d_ff=32)
    return {
        "llama": ModelConfig(**BASE),
        "llama 3": ModelConfig(
            **BASE,
            rope=RopeSpec("llama3", 5e5, factor=8.0, original_context=8192, low_freq_factor=1.0),
        ),
        "linear": ModelConfig(**BASE, rope=RopeSpec("linear", factor=4.0)),
        "yarn": ModelConfig(**BASE, rope=RopeSpec("yarn", factor=4.0, original_context=16)),
        "longrope": ModelConfig(**BASE, model_type="phi3", rope=LONGROPE, tie=False),
        "mixtral": ModelConfig(**BASE, model_type="mixtral", moe=replace(moe, d_ff=96), tie=False),
        "qwen2": ModelConfig(**BASE, model_type="qwen2", qkv_bias=True),
        "qwen3": ModelConfig(**BASE, model_type="qwen3", qk_norm="head", head_dim=32),
        "qwen3 moe": ModelConfig(
            **BASE, model_type="qwen3_moe", qk_norm="head", head_dim=32, moe=moe, tie=False
        ),
    }


@pytest.mark.parametrize("name", configs())
def test_a_model_comes_back_from_gguf_as_it_was(tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    model = GPT(replace(configs()[name], vocab=len(tokenizer)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_checkpoint(model, tmp_path / "hf")
    tokenizer.save(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "x.gguf", format="f32")
    again = load_checkpoint(tmp_path / "x.gguf")
    assert torch.allclose(again(TOKENS), model.eval()(TOKENS), atol=1e-6)
    convert(tmp_path / "x.gguf", tmp_path / "back")
    back = load_checkpoint(tmp_path / "back").state_dict()
    assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())
    assert Tokenizer.load(tmp_path / "back").encode("def x(): pass") == tokenizer.encode("def x(): pass")


@pytest.mark.parametrize("name", configs())
def test_tensors_are_called_as_llama_cpp_calls_them(name: str) -> None:
    config = configs()[name]
    arch_name, arch = written_as(config.model_type)
    (kind,) = [key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch_name]
    known = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[kind]}
    written = {
        theirs
        for entry in entries(gguf_rules(config, arch, targets(GPT.empty(config))), config)
        for theirs in entry.theirs
    }
    plain = {
        tensor.rsplit(".", 1)[0].replace("blk.0.", "blk.{bid}.").replace("blk.1.", "blk.{bid}.")
        for tensor in written
    }
    assert plain <= known


def test_latent_attention_is_read_as_older_files_have_it_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    mla = MLASpec(kv_rank=32, rope_dim=8, nope_dim=16, v_dim=8)
    moe = MoESpec(4, 2, 32, score="sigmoid", correction=True, shared_d_ff=32)
    sizes = BASE | {"vocab": len(tokenizer), "kv_heads": 4}
    rope = RopeSpec(interleaved=True)
    torch.manual_seed(0)
    model = GPT(ModelConfig(**sizes, model_type="deepseek_v3", mla=mla, moe=moe, rope=rope, tie=False)).eval()
    save_checkpoint(model, tmp_path / "hf")
    tokenizer.save(tmp_path / "hf")
    new = GGUFFile(convert(tmp_path / "hf", tmp_path / "new.gguf", format="f32"))
    assert {"blk.1.attn_k_b.weight", "blk.1.attn_v_b.weight"} <= new.infos.keys()
    old = gguf.GGUFWriter(tmp_path / "old.gguf", "deepseek2")
    before = {"attention.head_count_kv": 4, "attention.key_length": 24, "attention.value_length": 8}
    metadata = new.metadata | {f"deepseek2.{key}": value for key, value in before.items()}
    for key, value in metadata.items():
        if not key.endswith("_mla"):
            add_value(old, key, value)
    for name in new.infos:
        if not name.endswith(("attn_k_b.weight", "attn_v_b.weight")):
            old.add_tensor(name, new.get(name).numpy())
    for layer, block in enumerate(model.blocks):
        old.add_tensor(f"blk.{layer}.attn_kv_b.weight", block.attn.kv_b.weight.detach().numpy())
    old.write_header_to_file()
    old.write_kv_data_to_file()
    old.write_tensors_to_file()
    old.close()
    for name in ("new", "old"):
        assert torch.equal(load_checkpoint(tmp_path / f"{name}.gguf")(TOKENS), model(TOKENS)), name


def test_what_gguf_cannot_say_is_refused_with_the_field() -> None:
    windowed = ModelConfig(**BASE, model_type="mistral", layer_specs=(LOCAL, LOCAL))
    assert describe(windowed)["general.architecture"] == "llama"
    with pytest.raises(ConfigError, match=r"model_type='nanochat' is not written as GGUF"):
        written_as("nanochat")
    with pytest.raises(ConfigError, match=r"RopeSpec\(kind='dynamic'\): GGUF has no way"):
        describe(ModelConfig(**BASE, rope=RopeSpec("dynamic", original_context=32)))


def test_a_window_that_the_format_drops_is_refused_before_anything_is_written(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = ModelConfig(**BASE | {"vocab": len(tokenizer)}, model_type="mistral", layer_specs=(LOCAL, LOCAL))
    save_checkpoint(GPT(config), tmp_path / "hf")
    tokenizer.save(tmp_path / "hf")
    with pytest.raises(ConfigError, match=r"specs\[0\]\.\w+ is .* GGUF of 'llama' has no way to say so"):
        convert(tmp_path / "hf", tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_llama_3s_stretching_with_bounds_that_llama_cpp_does_not_know_is_refused(
    directory: Path, tmp_path: Path
) -> None:
    rope = RopeSpec(
        "llama3", 5e5, factor=3.0, original_context=1000, low_freq_factor=2.0, high_freq_factor=5.0
    )
    config = ModelConfig(**BASE | {"vocab": load_checkpoint(directory).config.vocab}, rope=rope)
    save_checkpoint(GPT(config), tmp_path / "hf")
    Tokenizer.load(directory).save(tmp_path / "hf")
    with pytest.raises(ConfigError, match=r"rope\.\w+ is .* GGUF of 'llama' has no way to say so"):
        convert(tmp_path / "hf", tmp_path / "x.gguf", format="f32")


def test_divisors_of_frequencies_that_nobody_named_are_read_as_they_are(tmp_path: Path) -> None:
    divisors = torch.tensor([1.0, 1.5, 2.0, 9.0])
    announced = [Announced("rope_freqs.weight", (4,), FORMATS["f32"])]
    write_gguf(tmp_path / "x.gguf", {"a": 1}, announced, lambda: iter([("rope_freqs.weight", divisors)]))
    scaling = rope_scaling({"context_length": 64}, GGUFFile(tmp_path / "x.gguf"))
    assert scaling["rope_type"] == "longrope"
    assert scaling["short_factor"] == scaling["long_factor"] == divisors.tolist()
    assert scaling["attention_factor"] == 1.0


def test_a_model_in_several_files_is_read_as_one(small: Path, tmp_path: Path) -> None:
    reader = GGUFFile(small)
    metadata = reader.metadata
    names = list(reader.infos)
    for part, chosen in enumerate((names[:5], names[5:]), 1):
        writer = gguf.GGUFWriter(tmp_path / f"m-{part:05}-of-00002.gguf", "llama")
        if part == 1:
            for key, value in metadata.items():
                add_value(writer, key, value)
        for name in chosen:
            writer.add_tensor(name, reader.get(name).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    split = load_checkpoint(tmp_path / "m-00001-of-00002.gguf")
    assert torch.equal(split(TOKENS), load_checkpoint(small)(TOKENS))
    assert torch.equal(split(TOKENS), load_checkpoint(tmp_path)(TOKENS))
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(WeightsError, match=r"m-00002-of-00002\.gguf does not exist"):
        open_gguf(tmp_path / "m-00001-of-00002.gguf")


def add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if key == "general.architecture":
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_gguf_cut_anywhere_is_described(small: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = small.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 40))])
    with pytest.raises(WeightsError, match=r"cut\.gguf") as caught:
        GGUFFile(tmp_path / "cut.gguf")
    assert len(str(caught.value).splitlines()) == 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_a_ggufs_header_is_one_sentence_or_a_model(
    small: Path, tmp_path: Path, data: st.DataObject
) -> None:
    raw = bytearray(small.read_bytes())
    raw[data.draw(st.integers(0, len(raw) // 3))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "flip.gguf").write_bytes(raw)
    try:
        load_checkpoint(tmp_path / "flip.gguf")
    except LLMError as error:
        sentence = str(error)
    else:
        return
    assert len(sentence.splitlines()) == 1


def test_other_formats_versions_and_architectures_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(WeightsError, match="is not a GGUF file"):
        GGUFFile(tmp_path / "a.gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    with pytest.raises(WeightsError, match="GGUF of version 1; versions 2 and 3 are read"):
        GGUFFile(tmp_path / "a.gguf")
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ConfigError, match=r"general\.architecture='mamba' is not read; there are"):
        load_checkpoint(tmp_path / "b.gguf")


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(directory: Path, tmp_path: Path) -> None:
    save_checkpoint(GPT(ModelConfig(**BASE | {"vocab": 100})), tmp_path)
    Tokenizer.load(directory).save(tmp_path)
    with pytest.raises(ConfigError, match=r"the tokenizer has \d+ tokens, the model's vocab_size is 100"):
        convert(tmp_path, tmp_path / "x.gguf")


def test_spare_rows_of_the_embedding_get_tokens_in_the_file(directory: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(directory)
    vocab = len(tokenizer) + 5
    save_checkpoint(GPT(ModelConfig(**BASE | {"vocab": vocab})), tmp_path)
    tokenizer.save(tmp_path)
    metadata = read_metadata(convert(tmp_path, tmp_path / "x.gguf"))
    assert len(metadata["tokenizer.ggml.tokens"]) == vocab
    assert metadata["tokenizer.ggml.tokens"][-1] == f"[PAD{vocab - 1}]"
