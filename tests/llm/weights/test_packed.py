"""FP8 with block scales, MXFP4, GPTQ and AWQ, read as plain tensors: against arithmetic done elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.packed import Unpacked, from_fp8, from_mxfp4
from blixt.llm.weights.packed_int import Scheme, from_packed
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


def packed_along_rows(numbers: np.ndarray, bits: int) -> torch.Tensor:
    """As AutoGPTQ packs: (n, m) whole numbers to (n / per word, m), the first in the lowest bits."""
    words = np.zeros((len(numbers) * bits // 32, numbers.shape[1]), np.uint32)
    for row in range(len(numbers)):
        words[row * bits // 32] |= numbers[row].astype(np.uint32) << np.uint32(row * bits % 32)
    return torch.from_numpy(words.view(np.int32))


def packed_as_awq(numbers: np.ndarray) -> torch.Tensor:
    """As AutoAWQ packs: (n, m) to (n, m / 8), outputs 0, 2, 4, 6, 1, 3, 5, 7 of each eight from below."""
    words = np.zeros((len(numbers), numbers.shape[1] // 8), np.uint32)
    for column in range(words.shape[1]):
        for place, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            words[:, column] |= numbers[:, 8 * column + output].astype(np.uint32) << np.uint32(4 * place)
    return torch.from_numpy(words.view(np.int32))


def quantised_by_hand(
    weight: torch.Tensor, kind: str, bits: int, group: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A layer's packed tensors, and the weight that they stand for, number by number."""
    most, matrix = 2**bits - 1, weight.T.numpy()  # (in, out)
    order = np.random.default_rng(0).permutation(len(matrix)) // group  # as with desc_act
    order = order if kind != "awq" else np.arange(len(matrix)) // group
    scales, zeros = (np.zeros((len(matrix) // group, matrix.shape[1]), kind) for kind in (np.float16, int))
    numbers, meant = np.zeros(matrix.shape, int), np.zeros(matrix.shape, np.float32)
    for number in range(len(scales)):
        rows = order == number
        low, high = matrix[rows].min(0).clip(max=0), matrix[rows].max(0).clip(min=0)
        scales[number] = (high - low) / most
        zeros[number] = np.round(-low / scales[number]).clip(0, most)
        numbers[rows] = (np.round(matrix[rows] / scales[number]) + zeros[number]).clip(0, most)
        meant[rows] = (numbers[rows] - zeros[number]) * scales[number].astype(np.float32)
    stored = (zeros - (kind == "gptq")) % 2**bits
    parts = {"scales": torch.from_numpy(scales)}
    if kind == "awq":
        parts |= {"qweight": packed_as_awq(numbers), "qzeros": packed_as_awq(stored)}
    else:
        parts |= {
            "qweight": packed_along_rows(numbers, bits),
            "qzeros": packed_along_rows(stored.T, bits).T.contiguous(),
            "g_idx": torch.from_numpy(order.astype(np.int32)),
        }
    return parts, torch.from_numpy(meant.T)


@pytest.mark.parametrize(
    ("kind", "bits", "said"),
    [
        ("gptq", 4, {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": True}),
        ("gptq", 8, {"quant_method": "gptq", "bits": 8, "group_size": 16}),
        ("gptq", 2, {"quant_method": "gptq", "bits": 2, "group_size": 16}),
        ("gptq_v2", 4, {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}),
        ("awq", 4, {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"}),
    ],
)
def test_a_checkpoint_of_gptq_or_awq_is_the_model_that_its_numbers_mean(
    tmp_path: Path, kind: str, bits: int, said: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab=64, d=32, heads=4, kv_heads=2, layers=1)).eval()
    save_checkpoint(model, tmp_path)
    tensors = {name: tensor.clone() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    meant: dict[str, torch.Tensor] = {}
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        parts, meant[name] = quantised_by_hand(tensors.pop(name), kind, bits, 16)
        tensors |= {f"{name.removesuffix('.weight')}.{part}": tensor for part, tensor in parts.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    data = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**data, "quantization_config": said}))
    loaded = load_checkpoint(tmp_path, dtype="float32")
    for ours, theirs in (
        ("attn.k", "self_attn.k_proj"),
        ("mlp.up", "mlp.up_proj"),
        ("mlp.down", "mlp.down_proj"),
    ):
        made, expected = (
            loaded.get_parameter(f"blocks.0.{ours}.weight"),
            meant[f"model.layers.0.{theirs}.weight"],
        )
        assert torch.equal(made, expected.half().float()), ours
    for lacking in ("qzeros", "scales"):
        part = f"model.layers.0.mlp.up_proj.{lacking}"
        save_file({n: t for n, t in tensors.items() if n != part}, tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match=rf"up_proj\.qweight without .*up_proj\.{lacking}"):
            load_checkpoint(tmp_path)


def test_layouts_of_packed_integers_that_are_not_known_are_refused() -> None:
    for said in (
        {"quant_method": "gptq", "bits": 3},
        {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"},
        {"quant_method": "awq", "bits": 4, "version": "gemv"},
    ):
        with pytest.raises(WeightsError, match="are not read: only gptq with 2, 4 or 8 bits"):
            Scheme.of(said)


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


@pytest.mark.parametrize("kind", ["awq4", "gptq2", "gptq4", "gptq8"])
def test_what_autoawq_and_autogptq_packed_themselves_is_what_they_meant(kind: str) -> None:
    """A layer that AutoAWQ 0.2.9's and AutoGPTQ 0.7.1's own code packed (its inputs in shuffled groups)."""
    parts = load_file(Path(__file__).with_name("packed_by_others.safetensors"))
    scheme = Scheme.of({"quant_method": kind[:-1], "bits": int(kind[-1])})
    names = ("qweight", "qzeros", "scales")
    found = from_packed(*(parts[f"{kind}.{n}"] for n in names), parts.get(f"{kind}.g_idx"), scheme)
    assert torch.equal(found, parts[f"{kind}.weight"])
