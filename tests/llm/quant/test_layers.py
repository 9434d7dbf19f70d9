"""Each number format against the float layer it stands for."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blixt.llm.errors import QuantError
from blixt.llm.quant import SCHEMES, quantize
from blixt.llm.quant.fp8 import FP8Linear, scaled_product
from blixt.llm.quant.int4 import Int4Linear
from blixt.llm.quant.int8 import Int8DynamicLinear, Int8Linear
from blixt.llm.quant.kernels import int4_kernel_codes, int4_product, int8_product
from blixt.llm.quant.nf4 import NF4Linear

# Largest relative error of weights drawn from a normal distribution, and of products with them.
WEIGHT_ERROR = {"int8": 0.008, "int8-dynamic": 0.008, "int4": 0.09, "nf4": 0.1, "fp8": 0.03}
PRODUCT_ERROR = {"int8": 0.008, "int8-dynamic": 0.015, "int4": 0.09, "nf4": 0.1, "fp8": 0.03}


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def layer(
    scheme: str, outputs: int = 48, inputs: int = 64, *, bias: bool = True
) -> tuple[nn.Linear, nn.Module]:
    torch.manual_seed(0)
    plain = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    nn.init.normal_(plain.weight)
    return plain, SCHEMES[scheme].from_linear(plain)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_come_back_close_to_what_they_were(scheme: str) -> None:
    plain, quantised = layer(scheme)
    assert error(quantised.dequantize(), plain.weight) < WEIGHT_ERROR[scheme]


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_products_are_close_to_the_float_layer(scheme: str, rows: int) -> None:
    plain, quantised = layer(scheme)
    x = torch.randn(rows, 64)
    with torch.no_grad():
        assert error(quantised(x), plain(x)) < PRODUCT_ERROR[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_layer_keeps_shape_dtype_and_bias(scheme: str) -> None:
    plain, quantised = layer(scheme)
    x = torch.randn(2, 3, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        y = quantised(x)
        still = quantised(torch.zeros(1, 64))[0]
    assert (y.shape, y.dtype) == ((2, 3, 48), torch.bfloat16)
    assert torch.allclose(still, plain.bias, atol=1e-2)
    assert (quantised.in_features, quantised.out_features) == (64, 48)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradients_flow_to_the_input_as_through_the_dequantised_weight(scheme: str) -> None:
    _, quantised = layer(scheme)
    x = torch.randn(5, 64, requires_grad=True)
    quantised(x).square().sum().backward()
    grad, x.grad = x.grad, None
    y = F.linear(x, quantised.dequantize(), quantised.bias)
    y.backward(2 * quantised(x).detach())
    assert torch.allclose(grad, x.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scheme", ["int8", "int8-dynamic"])
def test_int8_gives_a_row_the_same_bits_whatever_stands_beside_it(scheme: str) -> None:
    _, quantised = layer(scheme, 200, 128)
    x = torch.randn(33, 128)
    with torch.no_grad():
        whole = quantised(x)
        assert all(torch.equal(quantised(x[i : i + 1])[0], whole[i]) for i in range(33))


def test_int8_loses_nothing_of_the_activations() -> None:
    _, quantised = layer("int8")
    x = torch.randn(9, 64)
    with torch.no_grad():
        assert error(quantised(x), F.linear(x, quantised.dequantize(), quantised.bias)) < 1e-4


@settings(max_examples=30, deadline=None)
@given(
    outputs=st.integers(1, 40),
    groups=st.integers(1, 4),
    group=st.sampled_from([2, 16, 32, 64]),
    seed=st.integers(0, 99),
)
def test_every_int4_weight_is_within_half_a_step(outputs: int, groups: int, group: int, seed: int) -> None:
    weight = torch.randn(outputs, groups * group, generator=torch.Generator().manual_seed(seed))
    quantised = Int4Linear.from_weight(weight, group=group)
    parts = weight.view(outputs, groups, group)
    step = (parts.amax(2) - parts.amin(2)) / 15
    off = (quantised.dequantize().view_as(parts) - parts).abs().amax(2)
    # Scale and offset are bfloat16, good to one part in 256 of the largest weight.
    assert (off <= step * 0.5 + parts.abs().amax(2) / 64).all()


@pytest.mark.parametrize("group", [32, 64])
def test_the_int4_kernel_does_what_the_dequantised_weight_does(group: int) -> None:
    quantised = Int4Linear.from_weight(torch.randn(80, 128), group=group)
    x = torch.randn(7, 128)
    wanted = F.linear(x, quantised.dequantize())
    with torch.no_grad():
        assert error(quantised(x), wanted) < 0.01


@pytest.mark.parametrize("outputs", [16, 48, 64, 144])
def test_int4_codes_come_back_from_the_kernels_order(outputs: int) -> None:
    quantised = Int4Linear.from_weight(torch.randn(outputs, 64))
    codes = quantised.codes.clone()
    with torch.no_grad():
        quantised(torch.randn(2, 64))
    assert quantised.codes is None  # they are held once
    assert torch.equal(quantised.state_dict()["codes"], codes)
    with torch.no_grad():
        quantised(torch.randn(2, 64))
    assert torch.equal(quantised.to(torch.float64).codes, codes)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-6, 1.0, 1e4]))
def test_every_nf4_weight_gets_the_nearest_value(seed: int, scale: float) -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(seed)) * scale
    from blixt.llm.quant.nf4 import VALUES

    values = torch.tensor(VALUES) * weight.abs().amax(1, keepdim=True)
    nearest = (weight.unsqueeze(2) - values.unsqueeze(1)).abs().amin(2)
    found = (NF4Linear.from_weight(weight).dequantize() - weight).abs()
    assert torch.allclose(found, nearest, rtol=1e-3, atol=1e-5 * scale)


def test_nf4_is_bitsandbytes_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    weight = torch.randn(96, 128)
    codes, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    ours = NF4Linear.from_weight(weight)
    assert torch.equal(ours.codes, codes.view(-1))
    assert torch.equal(ours.absmax, state.absmax)
    with_library = ours.dequantize()
    monkeypatch.setattr("blixt.llm.quant.nf4._bitsandbytes", lambda: False)
    assert torch.equal(with_library, ours.dequantize())


def test_fp8_widens_every_number_exactly() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    every = every[~every.float().isnan()].view(1, -1)
    quantised = FP8Linear(every.shape[1], 1)
    quantised.weight_fp8, quantised.scale = every, torch.ones(1)
    assert torch.equal(quantised.dequantize(), every.float())


def test_the_scaled_product_of_gpus_agrees_with_the_widened_one() -> None:
    # PyTorch has the same operation on the CPU, so scales and layouts are checked here too.
    _, quantised = layer("fp8", bias=False)
    x = torch.randn(6, 64)
    found = scaled_product(x, quantised.weight_fp8, quantised.scale)
    assert error(found, F.linear(x, quantised.dequantize())) < 0.05


def test_the_int8_kernel_is_exact() -> None:
    a = torch.randint(-127, 128, (5, 200), dtype=torch.int8)
    b = torch.randint(-127, 128, (30, 200), dtype=torch.int8)
    assert torch.equal(int8_product(a, b).long(), a.long() @ b.long().t())


def test_the_int4_kernel_counts_codes_from_eight() -> None:
    codes = torch.randint(0, 16, (16, 64), dtype=torch.int32)
    scale_offset = torch.stack((torch.full((2, 16), 0.5), torch.full((2, 16), 0.25)), 2).bfloat16()
    x = torch.eye(64, dtype=torch.bfloat16)[:8]
    found = int4_product(x, int4_kernel_codes(codes), 32, scale_offset)
    assert torch.equal(found.float(), ((codes - 8) * 0.5 + 0.25).t()[:8].float())


def test_a_group_that_does_not_divide_the_input_is_refused_with_the_layers_name() -> None:
    with pytest.raises(QuantError, match=r"0: int4 with group=48 does not fit a layer of 64 inputs"):
        quantize(nn.Sequential(nn.Linear(64, 8)), "int4", group=48)


def test_an_unknown_scheme_or_option_is_refused() -> None:
    with pytest.raises(QuantError, match="no number format 'int3': choose one of int8"):
        quantize(nn.Sequential(nn.Linear(64, 8)), "int3")
    with pytest.raises(QuantError, match="int8 has no option 'group'"):
        quantize(nn.Sequential(nn.Linear(64, 8)), "int8", group=32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rows", [1, 17, 64])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_on_cuda_products_are_close_to_the_float_layer(scheme: str, rows: int) -> None:
    plain, quantised = layer(scheme)
    x = torch.randn(rows, 64, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        found = quantised.cuda()(x).float().cpu()
        wanted = plain(x.float().cpu())
    assert error(found, wanted) < PRODUCT_ERROR[scheme] + 0.05


def test_kinds_say_how_many_bits_a_weight_takes() -> None:
    assert [kind(1024, 8).bits for kind in (Int8Linear, Int8DynamicLinear, Int4Linear, NF4Linear)] == [
        8 + 1 / 32,
        8 + 1 / 32,
        5,
        4.5,
    ]
