"""How many floating-point operations a model needs, and how many a device could do."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from torch import nn

from blixt.fabric.rank_zero import rank_zero_warn

Kind = torch.dtype | Literal["tfloat32"]

_FP8 = torch.float8_e4m3fn


def _chip(
    half: float,
    *,
    tf32: float | None = None,
    full: float | None = None,
    double: float | None = None,
    fp8: float | None = None,
    bf16: bool = True,
) -> dict[Kind, float]:
    """Peak teraflops of one chip, by type."""
    tera: dict[Kind, float | None] = {
        torch.float16: half,
        torch.bfloat16: half if bf16 else None,
        "tfloat32": tf32,
        torch.float32: full,
        torch.float64: double,
        _FP8: fp8,
    }
    return {kind: value * 1e12 for kind, value in tera.items() if value is not None}


# Dense matrix products with 32-bit accumulation, from the makers' data sheets (which like to print numbers
# with 2:4 sparsity, twice as large). The first name that is found in the device's name counts.
_CHIPS: Mapping[str, dict[Kind, float]] = {
    "b300": _chip(2250, tf32=1125, full=75, double=1.25, fp8=4500),
    "b200": _chip(2250, tf32=1125, full=75, double=37, fp8=4500),
    "gb200": _chip(2500, tf32=1250, full=80, double=40, fp8=5000),
    "h200 nvl": _chip(835.5, tf32=417.5, full=60, double=30, fp8=1671),
    "h200": _chip(989.4, tf32=494.7, full=66.9, double=33.5, fp8=1978.9),
    "gh200": _chip(989.4, tf32=494.7, full=66.9, double=33.5, fp8=1978.9),
    "h100 nvl": _chip(835.5, tf32=417.5, full=60, double=30, fp8=1671),
    "h100 pcie": _chip(756, tf32=378, full=51.2, double=25.6, fp8=1513),
    "h100": _chip(989.4, tf32=494.7, full=66.9, double=33.5, fp8=1978.9),
    "h20": _chip(148, tf32=74, full=44, double=1, fp8=296),
    "a100": _chip(312, tf32=156, full=19.5, double=9.7),
    "a800": _chip(312, tf32=156, full=19.5, double=9.7),
    "a10g": _chip(125, tf32=62.5, full=31.2),
    "a10": _chip(125, tf32=62.5, full=31.2),
    "a40": _chip(149.7, tf32=74.8, full=37.4),
    "a30": _chip(165, tf32=82, full=10.3, double=5.2),
    "rtx 6000 ada": _chip(364.2, tf32=182.1, full=91.1, fp8=728.5),
    "rtx a6000": _chip(154.8, tf32=77.4, full=38.7),
    "l40s": _chip(362, tf32=183, full=91.6, fp8=733),
    "l40": _chip(181, tf32=90.5, full=90.5, fp8=362),
    "l4": _chip(121, tf32=60, full=30.3, fp8=242),
    "rtx 5090": _chip(209.5, tf32=104.8, full=104.8, fp8=419),
    "rtx 4090": _chip(165.2, tf32=82.6, full=82.6, fp8=330.3),
    "rtx 4080": _chip(97.5, tf32=48.7, full=48.7, fp8=194.9),
    "rtx 3090": _chip(71.2, tf32=35.6, full=35.6),
    "rtx 3080": _chip(59.5, tf32=29.8, full=29.8),
    "t4": _chip(65, full=8.1, bf16=False),
    "v100": _chip(125, full=15.7, double=7.8, bf16=False),
    "mi325x": _chip(1307.4, tf32=653.7, full=163.4, double=81.7, fp8=2614.9),
    "mi300x": _chip(1307.4, tf32=653.7, full=163.4, double=81.7, fp8=2614.9),
    "mi250": _chip(362.1, full=45.3, double=45.3),
}


def measure_flops(
    model: nn.Module,
    forward_fn: Callable[[], Any],
    loss_fn: Callable[[Any], torch.Tensor] | None = None,
) -> int:
    """Count the operations of matrix products, convolutions and attention, by running them once.

    On the meta device this costs next to nothing:

        with torch.device("meta"):
            model, x = Net(), torch.empty(2, 32)
        measure_flops(model, lambda: model(x), lambda y: y.sum())

    Args:
        model: Whose operations they are; its gradients are left as they were.
        forward_fn: Runs the model and returns its output.
        loss_fn: The loss of that output; when given, backward counts too.

    Returns:
        Operations of one call; a multiplication and an addition are two.
    """
    from torch.utils.flop_counter import FlopCounterMode

    before = {parameter: parameter.grad for parameter in model.parameters()}
    with FlopCounterMode(display=False) as counter:
        if loss_fn is None:
            forward_fn()
        else:
            cast("Any", loss_fn(forward_fn())).backward()
    for parameter, gradient in before.items():
        parameter.grad = gradient
    return int(counter.get_total_flops())


def get_available_flops(device: torch.device, dtype: torch.dtype | str) -> float | None:
    """What the device could do a second at best, in dense matrix products.

    Args:
        device: A CUDA or ROCm device; others are not known.
        dtype: Of the products. float32 counts as TF32 when torch is allowed to use it.

    Returns:
        Operations a second; None, with a warning, for a device or type that is not in the list.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    if dtype is torch.float32 and torch.get_float32_matmul_precision() != "highest":
        dtype = "tfloat32"
    return flops_of_chip(name, cast("Kind", dtype))


def flops_of_chip(name: str, dtype: Kind) -> float | None:
    """The same from a device's name, as drivers spell it: "NVIDIA H100 80GB HBM3"."""
    spelled = name.lower().replace("-", " ")
    words = spelled.split()
    for chip, speeds in _CHIPS.items():
        found = chip in spelled if " " in chip else chip in words
        if found:
            if dtype not in speeds:
                rank_zero_warn(f"It is not known how fast {name!r} computes in {dtype}.")
            return speeds.get(dtype)
    rank_zero_warn(f"It is not known how fast {name!r} is; there will be no share of its peak (MFU).")
    return None
