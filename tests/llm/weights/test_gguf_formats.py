"""GGUF's formats of numbers: what is written is read by the gguf package, and what it writes by us."""

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.llm.weights.gguf_sizes import BASE

from blixt.llm.config import LayerSpec, ModelConfig, MoESpec, RopeSpec
from blixt.llm.errors import WeightsError
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.convert import convert
from blixt.llm.weights.gguf.encode import FORMATS
from blixt.llm.weights.gguf.read import GGUFFile
from blixt.llm.weights.gguf.write import format_for

PLAIN = [name for name, format in FORMATS.items() if format.block == 32 and not format.rest]


@pytest.mark.parametrize("name", PLAIN)
def test_every_format_is_read_back_within_its_error(directory: Path, tmp_path: Path, name: str) -> None:
    path = convert(directory, tmp_path / "x.gguf", format=name)
    reader = gguf.GGUFReader(path)
    kind = FORMATS[name].kind
    assert {tensor.tensor_type for tensor in reader.tensors} >= {kind}
    ours = load_checkpoint(path, dtype="float32").state_dict()
    bound = {"f32": 0, "f16": 1e-3, "bf16": 1e-2, "q8_0": 1e-2, "q5_0": 7e-2, "q5_1": 7e-2}.get(name, 0.15)
    for key, expected in load_checkpoint(directory).state_dict().items():
        error = (ours[key] - expected).abs().max() / expected.abs().max()
        assert error <= bound, key


@pytest.mark.parametrize(
    ("name", "bound", "usual", "instead"),
    [("q4_k_s", 0.08, "Q4_K", "Q5_0"), ("q5_k_s", 0.045, "Q5_K", "Q5_1"), ("q6_k", 0.02, "Q6_K", "Q8_0")],
)
def test_k_formats_are_read_back_by_the_gguf_package(
    tokenizer: Tokenizer, tmp_path: Path, name: str, bound: float, usual: str, instead: str
) -> None:
    torch.manual_seed(0)
    sizes = {"d": 256, "layers": 1, "heads": 2, "kv_heads": 1, "d_ff": 288, "vocab": len(tokenizer)}
    save_checkpoint(GPT(ModelConfig(**BASE | sizes)), tmp_path / "wide")
    tokenizer.save(tmp_path / "wide")
    path = convert(tmp_path / "wide", tmp_path / "x.gguf", format=name)
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    kinds = {key: tensor.tensor_type.name for key, tensor in read.items()}
    assert kinds["blk.0.attn_q.weight"] == usual
    assert kinds["token_embd.weight"] == "Q6_K"
    assert kinds["blk.0.ffn_down.weight"] == instead  # rows of 288
    ours = load_checkpoint(path, dtype="float32").state_dict()
    up = read["blk.0.ffn_up.weight"]
    theirs = gguf.quants.dequantize(up.data, up.tensor_type)
    assert np.array_equal(ours["blocks.0.mlp.up.weight"].numpy(), theirs)
    for key, expected in load_checkpoint(tmp_path / "wide").state_dict().items():
        error = (ours[key] - expected).square().mean().sqrt()
        assert error <= bound * expected.std(correction=0) + 1e-6, key


def test_mixtures_keep_some_layers_in_a_better_format_and_are_numbered_as_llama_cpp_does() -> None:
    def kinds(name: str, tensor: str) -> set[int]:
        names = [f"blk.{layer}.{tensor}.weight" for layer in range(8)]
        better = FORMATS["q6_k"].kind
        wanted = FORMATS[name]
        return {i for i, n in enumerate(names) if format_for(n, (256, 256), wanted, 8).kind == better}

    for name in ("q4_k_m", "q5_k_m"):
        assert kinds(name, "attn_v") == kinds(name, "ffn_down") == {0, 3, 6, 7}
        assert kinds(name, "attn_q") == set()
    assert kinds("q4_k_s", "attn_v") == kinds("q5_k_s", "ffn_down") == set()
    named = {"f32": "ALL_F32", "mxfp4": "MOSTLY_MXFP4_MOE"}
    for name, format in FORMATS.items():
        number = gguf.LlamaFileType[named.get(name, f"MOSTLY_{name.upper()}")].value
        assert format.file_type == number, name
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(format.kind)] == (
            (1, format.block_bytes // 32) if format.dtype else (format.block, format.block_bytes)
        )


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["q4_k_s", "q5_k_s", "q6_k"]), st.sampled_from([1e-2, 1, 1e3])
)
def test_k_blocks_lose_less_than_simpler_ones(seed: int, name: str, scale: float) -> None:
    """Zeros, constants and outliers included: what is read back is finite and nearer than in plain blocks."""
    numbers = torch.randn(6, 512, generator=torch.Generator().manual_seed(seed)) * scale
    numbers[0, :256], numbers[1, :32], numbers[2, 0] = 0, scale, 50 * scale
    numbers[3], numbers[4] = numbers[3].abs(), -numbers[4].abs()
    simpler = {"q4_k_s": "q4_1", "q5_k_s": "q5_1", "q6_k": "q5_1"}[name]
    errors: list[float] = []
    for each in (name, simpler):
        raw = FORMATS[each].encode(numbers).numpy().reshape(6, -1)
        back = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(FORMATS[each].kind))
        assert np.isfinite(back).all()
        errors.append(float(np.square(back - numbers.numpy())[[0, 1, 3, 4, 5]].mean()))
        if each == name:
            assert not back[0, :256].any()
    assert errors[0] < errors[1]


def test_experts_are_written_in_mxfp4_and_their_numbers_kept(tokenizer: Tokenizer, tmp_path: Path) -> None:
    experts = MoESpec(experts=4, top_k=2, d_ff=96)
    layers = (LayerSpec(mlp="moe", d_ff=96, rope=RopeSpec()),) * 2
    config = ModelConfig(**BASE | {"vocab": len(tokenizer), "model_type": "mixtral"}, moe=experts, tie=False)
    model = GPT(replace(config, layer_specs=layers))
    kept = torch.tensor([0.0, 0.5, -1, 1.5, 2, -3, 4, 6])
    torch.manual_seed(0)
    with torch.no_grad():  # numbers that the format has, as a model that was trained in it has them
        for block in model.blocks:
            for part in (block.mlp.experts.gate, block.mlp.experts.up, block.mlp.experts.down):
                part.copy_(kept[torch.randint(0, 8, part.shape)] / 64)
    save_checkpoint(model, tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    path = convert(tmp_path / "model", tmp_path / "x.gguf", format="mxfp4")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["blk.0.ffn_up_exps.weight"] == "MXFP4"
    assert kinds["blk.0.attn_q.weight"] == kinds["token_embd.weight"] == "Q8_0"
    again = load_checkpoint(path, dtype="float32")
    for part in ("gate", "up", "down"):
        name = f"blocks.1.mlp.experts.{part}"
        assert torch.equal(again.get_parameter(name), model.get_parameter(name))


def test_experts_biases_stay_single_precision_as_llama_cpp_demands() -> None:
    for name in ("blk.0.ffn_down_exps.bias", "blk.0.attn_q.bias"):
        for wanted in FORMATS.values():
            assert format_for(name, (4, 256), wanted) == FORMATS["f32"]


def test_formats_that_do_not_fit_or_are_not_written_are_refused(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="MXFP4 is a format for experts"):
        convert(directory, tmp_path / "x.gguf", format="mxfp4")
    with pytest.raises(WeightsError, match=r"not written as 'iq4_xs'; take one of f32, .*q4_k_m"):
        convert(directory, tmp_path / "x.gguf", format="iq4_xs")


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["q8_0", "q4_0", "q4_1", "mxfp4"]),
    st.sampled_from([1e-6, 1, 1e3]),
)
def test_blocks_are_encoded_to_the_same_bytes_as_by_the_gguf_package(
    seed: int, name: str, scale: float
) -> None:
    numbers = torch.randn(4, 96, generator=torch.Generator().manual_seed(seed)) * scale
    numbers[0, :32] = 0
    ours = FORMATS[name].encode(numbers).numpy()
    kind = gguf.GGMLQuantizationType(FORMATS[name].kind)
    theirs = gguf.quants.quantize(numbers.numpy(), kind).reshape(-1)
    same = (ours == theirs).mean()
    back = [gguf.quants.dequantize(raw.reshape(4, -1), kind) for raw in (ours, theirs)]
    worst = [np.abs(each - numbers.numpy()).max() for each in back]
    assert same > 0.99 or worst[0] <= worst[1] * 1.001  # a tie may be rounded either way
    assert worst[0] <= worst[1] * 1.01 + 1e-12


QUANTISED = sorted(kind.name for kind in gguf.quants._type_traits if kind.name not in ("F32", "F16", "BF16"))


@pytest.mark.parametrize("name", QUANTISED)
def test_every_block_format_of_the_package_is_read(tmp_path: Path, name: str) -> None:
    kind = gguf.GGMLQuantizationType[name]
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    shape = (3, 2 * per_block)
    random = np.random.default_rng(0).integers(0, 60, (3, 2 * block_bytes), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("w", random, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(tmp_path / "x.gguf")
    assert (file.infos["w"].shape, file.infos["w"].stored) == (shape, name)
    expected = gguf.quants.dequantize(random, kind)
    assert np.array_equal(file.get("w").numpy(), expected, equal_nan=True)
    assert np.array_equal(file.blocks("w").numpy(), random)


def test_numbers_that_are_not_finite_are_refused_in_blocks() -> None:
    with pytest.raises(WeightsError, match=r"not finite, which Q8_0 cannot keep"):
        FORMATS["q8_0"].encode(torch.full((1, 32), torch.nan))
