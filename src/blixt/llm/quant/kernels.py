"""Products of PyTorch's that have no public name yet; tests hold them to what is said here."""

import torch
from torch import Tensor


def int8_product(a: Tensor, b: Tensor) -> Tensor:
    """Exact product of int8 matrices: (M, K) and (N, K) to (M, N) in int32.

    On CUDA, M must be above 16 and a multiple of 8.
    """
    return torch._int_mm(a, b.t())  # pyright: ignore[reportPrivateUsage] - no public name


def int4_kernel_codes(codes: Tensor) -> Tensor:
    """Codes from 0 to 15, (out, in) in int32, in the order that the CPU's `int4_product` reads."""
    convert = torch._convert_weight_to_int4pack_for_cpu  # pyright: ignore[reportPrivateUsage] - as above
    return convert(codes, 1)


def int4_product(x: Tensor, kernel_codes: Tensor, group: int, scale_offset: Tensor) -> Tensor:
    """`x @ ((codes - 8) * scale + offset).T` on the CPU.

    Args:
        x: (N, in) in bfloat16.
        kernel_codes: From `int4_kernel_codes`.
        group: Codes that share a scale: 32, 64, 128 or 256.
        scale_offset: (in / group, out, 2) in bfloat16.
    """
    multiply = torch._weight_int4pack_mm_for_cpu  # pyright: ignore[reportPrivateUsage] - as above
    return multiply(x, kernel_codes, group, scale_offset)
