"""FP8 with block scales and MXFP4, read as plain tensors: against transformers' own arithmetic."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.packed import Unpacked, from_fp8, from_mxfp4
from blixt.llm.weights.safetensors_file import SafetensorsFile


def test_mxfp4_is_what_transformers_makes_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 8, 2, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(110, 140, (3, 8, 2), generator=generator, dtype=torch.uint8)
    assert torch.equal(from_mxfp4(blocks, scales), convert_moe_packed_tensors(blocks, scales))


def test_fp8_blocks_are_multiplied_by_their_scales_to_the_ragged_edge() -> None:
    weight = torch.randn(300, 200).to(torch.float8_e4m3fn)
    scale = torch.rand(3, 2) + 0.1
    made = from_fp8(weight, scale, (128, 128))
    for row, column in ((0, 0), (127, 128), (128, 127), (299, 199)):
        expected = weight[row, column].float() * scale[row // 128, column // 128]
        assert made[row, column] == expected.bfloat16()


def test_a_checkpoint_in_fp8_is_loaded_as_the_model_it_was_made_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab=64, d=32, heads=4, kv_heads=2, layers=2)).eval()
    save_checkpoint(model, tmp_path)
    tensors = {name: tensor.clone() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        scale = torch.full([-(-size // 16) for size in tensors[name].shape], 0.001)
        tensors[name] = (tensors[name] / 0.001).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale
    save_file(tensors, tmp_path / "model.safetensors")
    data = json.loads((tmp_path / "config.json").read_text())
    data["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (tmp_path / "config.json").write_text(json.dumps(data))
    loaded = load_checkpoint(tmp_path, dtype="float32")
    expected = model.blocks[1].mlp.up.weight
    assert (loaded.blocks[1].mlp.up.weight - expected).abs().max() < 0.07 * expected.abs().max()
    assert "model.layers.0.mlp.up_proj.weight_scale_inv" not in dict(loaded.named_parameters())


def test_scales_of_another_shape_and_missing_ones_are_named(tmp_path: Path) -> None:
    tensors = {
        "x.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn),
        "x.weight_scale_inv": torch.ones(3, 1),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"x\.weight_scale_inv has shape \(3, 1\), x\.weight in blocks of"):
        Unpacked(SafetensorsFile(tmp_path / "a.safetensors"), (128, 128))
    save_file({"y_blocks": torch.zeros(2, 4, 1, 16, dtype=torch.uint8)}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="y_blocks has no y_scales of its shape"):
        Unpacked(SafetensorsFile(tmp_path / "b.safetensors"), (128, 128))
