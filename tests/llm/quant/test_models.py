"""Whole models in fewer bits: what is converted, how much smaller they are, and kept on disk."""

from pathlib import Path

import pytest
import torch
from torch import nn

from blixt.llm.config import ModelConfig
from blixt.llm.errors import QuantError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.quant import SCHEMES, QuantLinear, load_quantized, perplexity_gate, quantize, save_quantized
from blixt.llm.specs import MoESpec

TOKENS = torch.arange(24).view(2, 12)


def small(**changes: object) -> GPT:
    torch.manual_seed(0)
    fields = {"vocab": 128, "d": 64, "layers": 2, "heads": 4, "kv_heads": 2, "d_ff": 128, "context": 32}
    return GPT(ModelConfig(**(fields | changes))).eval().requires_grad_(False)


def bytes_of(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def test_all_linear_layers_but_the_skipped_are_converted() -> None:
    model = quantize(small(tie=False), "int8", skip=("head", "*.mlp.down"))
    kept = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert kept == ["blocks.0.mlp.down", "blocks.1.mlp.down", "head"]


def test_converting_again_changes_nothing() -> None:
    model = quantize(small(), "int8")
    layers = [module for module in model.modules() if isinstance(module, QuantLinear)]
    quantize(model, "int4")
    assert [module for module in model.modules() if isinstance(module, QuantLinear)] == layers


@pytest.mark.parametrize(("scheme", "times"), [("int8", 3.7), ("int4", 5.8), ("nf4", 6.6), ("fp8", 3.7)])
def test_the_blocks_become_smaller(scheme: str, times: float) -> None:
    before = bytes_of(small().blocks)
    assert before / bytes_of(quantize(small(), scheme).blocks) > times


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path: Path, scheme: str) -> None:
    model = quantize(small(qkv_bias=True, out_bias=True), scheme)
    with torch.no_grad():
        wanted = model(TOKENS)  # int4 changes its order of codes here
        save_quantized(model, tmp_path)
        assert torch.equal(load_quantized(tmp_path)(TOKENS), wanted)
        assert torch.equal(model(TOKENS), wanted)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_experts_are_converted_and_saved(tmp_path: Path, scheme: str) -> None:
    moe = MoESpec(experts=4, top_k=2, d_ff=128)
    plain = small(moe=moe, model_type="mixtral")
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
        wanted = plain(TOKENS)
        model = quantize(small(moe=moe, model_type="mixtral"), scheme)
        assert not any(parameter.dim() == 3 for parameter in model.parameters())
        model = quantize(plain, scheme)
        found = model(TOKENS)
        save_quantized(model, tmp_path)
        assert torch.equal(load_quantized(tmp_path)(TOKENS), found)
    assert (found - wanted).norm() / wanted.norm() < 0.35


def test_a_loaded_model_shares_the_files_pages(tmp_path: Path) -> None:
    save_quantized(quantize(small(), "int8"), tmp_path)
    codes = load_quantized(tmp_path).get_submodule("blocks.0.attn.q").weight_int8
    assert codes.untyped_storage().nbytes() >= codes.nbytes
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux lists a process's mappings")
    spans = [
        line.split()[0] for line in maps.read_text().splitlines() if line.endswith("quantized.safetensors")
    ]
    assert any(int(a, 16) <= codes.data_ptr() < int(b, 16) for a, b in (span.split("-") for span in spans))


def test_a_model_that_is_not_quantised_is_not_saved_as_one(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="no layer of the model is quantised"):
        save_quantized(small(), tmp_path)


def test_a_file_that_does_not_fit_its_config_is_refused(tmp_path: Path) -> None:
    save_quantized(quantize(small(), "int8"), tmp_path)
    small(layers=3).config.save(tmp_path)
    with pytest.raises(WeightsError, match=r"lacks blocks\.2\."):
        load_quantized(tmp_path)


def test_the_gate_lets_a_close_model_pass_and_says_what_a_worse_one_costs() -> None:
    documents = [list(range(30)), list(range(40, 60))]
    gate = perplexity_gate(quantize(small(), "int8"), small(), documents, limit=1.02)
    assert gate.ratio == pytest.approx(1, abs=0.02)
    with pytest.raises(QuantError, match=r"perplexity grew from .* to .*; the limit is 0\.5"):
        perplexity_gate(quantize(small(), "nf4"), gate.before, documents, limit=0.5)
