"""Number formats that GGUF files are written in, and their encoders."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError
from blixt.llm.weights.gguf.encode_k import SUPER, mxfp4, q4_k, q5_k, q6_k
from blixt.llm.weights.gguf.read import gguf_package

BLOCK = 32


@dataclass(frozen=True)
class Format:
    """A number format of a file.

    Attributes:
        name: As ggml calls it.
        kind: ggml's number of it.
        file_type: `general.file_type` of a file whose matrices are in it.
        block_bytes: Bytes of a block.
        dtype: The torch dtype of a plain format; None for blocks.
        block: Numbers in a block.
        instead: The format of matrices whose rows are no whole blocks.
        outer: The format of what turns tokens into vectors and back.
        better: The format of matrices that matter most, in formats that mix two; "" for none.
        rest: The format of all but the experts, in formats for experts; "" for none.
    """

    name: str
    kind: int
    file_type: int
    block_bytes: int
    dtype: torch.dtype | None = None
    block: int = BLOCK
    instead: str = "f16"
    outer: str = "q8_0"
    better: str = ""
    rest: str = ""

    def size_bytes(self, shape: tuple[int, ...]) -> int:
        """Size of a tensor in it."""
        return prod(shape) * self.block_bytes // self.block

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor can be kept in it: rows of whole blocks."""
        return self.dtype is not None or (len(shape) >= 2 and shape[-1] % self.block == 0)

    def encode(self, tensor: Tensor) -> Tensor:
        """The tensor's bytes, flat uint8.

        Raises:
            WeightsError: The numbers are not all finite, and blocks share a scale.
        """
        if self.dtype is not None:
            return tensor.to(self.dtype).contiguous().reshape(-1).view(torch.uint8)
        numbers = tensor.float().contiguous()
        if not bool(torch.isfinite(numbers).all()):
            raise WeightsError(f"a matrix has numbers that are not finite, which {self.name} cannot keep")
        return _ENCODERS[self.name](numbers.reshape(-1, self.block)).reshape(-1)


_K4 = Format("Q4_K", 12, 14, 144, block=SUPER, instead="q5_0", outer="q6_k")
_K5 = Format("Q5_K", 13, 16, 176, block=SUPER, instead="q5_1", outer="q6_k")

FORMATS: dict[str, Format] = {
    "f32": Format("F32", 0, 0, 128, torch.float32),
    "f16": Format("F16", 1, 1, 64, torch.float16),
    "bf16": Format("BF16", 30, 32, 64, torch.bfloat16),
    "q8_0": Format("Q8_0", 8, 7, 34),
    "q6_k": Format("Q6_K", 14, 18, 210, block=SUPER, instead="q8_0", outer="q6_k"),
    "q5_k_m": replace(_K5, file_type=17, better="q6_k"),
    "q5_k_s": _K5,
    "q5_1": Format("Q5_1", 7, 9, 24),
    "q5_0": Format("Q5_0", 6, 8, 22),
    "q4_k_m": replace(_K4, file_type=15, better="q6_k"),
    "q4_k_s": _K4,
    "q4_1": Format("Q4_1", 3, 3, 20),
    "q4_0": Format("Q4_0", 2, 2, 18),
    "mxfp4": Format("MXFP4", 39, 38, 17, rest="q8_0"),
}
_SHORT = {"q4_k": "q4_k_m", "q5_k": "q5_k_m"}  # as llama.cpp's own tool reads them


def format_named(name: str) -> Format:
    """A format from its name, such as "q8_0".

    Raises:
        WeightsError: It is not one that is written.
    """
    known = _SHORT.get(name.lower(), name.lower())
    if known not in FORMATS:
        raise WeightsError(f"GGUF is not written as {name!r}; take one of {', '.join(FORMATS)}")
    return FORMATS[known]


def _q8_0(blocks: Tensor) -> Tensor:
    """Scale float16, then 32 int8: (N, 32) to (N, 34)."""
    scale = blocks.abs().amax(1, keepdim=True) / 127
    numbers = (blocks * _inverse(scale)).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([_half(scale), numbers.view(torch.uint8)], 1)


def _q4_0(blocks: Tensor) -> Tensor:
    """Scale float16, then 32 numbers of 4 bits, 8 is zero: (N, 32) to (N, 18)."""
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = extreme / -8
    numbers = (blocks * _inverse(scale) + 8.5).clamp(0, 15).to(torch.uint8)
    return torch.cat([_half(scale), _nibbles(numbers)], 1)


def _q4_1(blocks: Tensor) -> Tensor:
    """Scale and least number float16, then 32 numbers of 4 bits: (N, 32) to (N, 20)."""
    least, largest = blocks.aminmax(dim=1, keepdim=True)
    scale = (largest - least) / 15
    numbers = ((blocks - least) * _inverse(scale) + 0.5).clamp(0, 15).to(torch.uint8)
    return torch.cat([_half(scale), _half(least), _nibbles(numbers)], 1)


def _by_package(name: str) -> Callable[[Tensor], Tensor]:
    def encode(blocks: Tensor) -> Tensor:
        gguf = gguf_package()
        return torch.as_tensor(gguf.quants.quantize(blocks.numpy(), gguf.GGMLQuantizationType[name]))

    return encode


_ENCODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _by_package("Q5_0"),
    "Q5_1": _by_package("Q5_1"),
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
    "MXFP4": mxfp4,
}


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)


def _half(numbers: Tensor) -> Tensor:
    return numbers.half().view(torch.uint8)


def _nibbles(numbers: Tensor) -> Tensor:
    """Number i in the low half of byte i, number i + 16 in the high half."""
    return numbers[:, :16] | (numbers[:, 16:] << 4)
