"""Checkpoints in 8 or 4 bits that are read as plain tensors: FP8 with block scales, MXFP4, GPTQ and AWQ.

FP8 (DeepSeek V3, Qwen 3 FP8): `x.weight` in float8 with one scale a block of 128 x 128 numbers in
`x.weight_scale_inv`. MXFP4 (gpt-oss; Open Compute's microscaling formats): `x_blocks`, two numbers of 4 bits
a byte, and `x_scales`, one exponent for 32 numbers; what it makes is called `x`, its last two dimensions
exchanged. GPTQ and AWQ: see `packed_int`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError
from blixt.llm.weights.packed_int import NUMBERS, Scheme, UnpackedInts
from blixt.llm.weights.source import Source, TensorInfo

_SCALE, _BLOCKS, _SCALES = "_scale_inv", "_blocks", "_scales"
_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def unpacked(source: Source, quantisation: Mapping[str, Any] | None) -> Source:
    """The source with its packed tensors as plain ones, made as they are asked for.

    Args:
        source: Of the files.
        quantisation: `quantization_config` of `config.json`; None when there is none.

    Raises:
        WeightsError: Scales are missing or of another shape than their tensor's blocks.
    """
    names = source.infos.keys()
    if any(name.endswith(NUMBERS) for name in names):
        return UnpackedInts(source, Scheme.of(quantisation or {}))
    packed = {name for name in names if name + _SCALE in names or name.endswith(_BLOCKS)}
    if not packed:
        return source
    rows, columns = (quantisation or {}).get("weight_block_size") or (128, 128)
    return Unpacked(source, (int(rows), int(columns)))


@dataclass(frozen=True)
class _Fp8:
    name: str
    block: tuple[int, int]

    def read(self, source: Source) -> Tensor:
        return from_fp8(source.get(self.name), source.get(self.name + _SCALE), self.block)


@dataclass(frozen=True)
class _Mxfp4:
    name: str

    def read(self, source: Source) -> Tensor:
        return from_mxfp4(source.get(self.name + _BLOCKS), source.get(self.name + _SCALES))


class Unpacked:
    """A source whose packed tensors look plain, in bfloat16.

    Args:
        source: Of the files.
        block: Rows and columns that share an FP8 scale.
    """

    def __init__(self, source: Source, block: tuple[int, int]) -> None:
        self.where = source.where
        self._source = source
        self._packed: dict[str, _Fp8 | _Mxfp4] = {}
        self.infos: dict[str, TensorInfo] = {}
        for name, info in source.infos.items():
            if name.endswith(_BLOCKS) and info.dtype == torch.uint8:
                self._add_mxfp4(name.removesuffix(_BLOCKS), info)
            elif name + _SCALE in source.infos and info.dtype in _FP8:
                self._add_fp8(name, info, block)
            elif not _is_scale(name, source.infos):
                self.infos[name] = info

    def get(self, name: str) -> Tensor:
        """A tensor, unpacked when it is packed."""
        packed = self._packed.get(name)
        return self._source.get(name) if packed is None else packed.read(self._source)

    def file_of(self, name: str) -> Path:
        """The file that holds it."""
        packed = name + _BLOCKS if isinstance(self._packed.get(name), _Mxfp4) else name
        return self._source.file_of(packed)

    def will_need(self) -> None:
        """Let the system read ahead."""
        self._source.will_need()

    def _add_fp8(self, name: str, info: TensorInfo, block: tuple[int, int]) -> None:
        scale = self._source.infos[name + _SCALE]
        wanted = tuple(-(-size // step) for size, step in zip(info.shape, block, strict=True))
        if scale.shape != wanted:
            raise WeightsError(
                f"{self.where}: {name + _SCALE} has shape {scale.shape}, "
                f"{name} in blocks of {block} needs {wanted}"
            )
        self._packed[name] = _Fp8(name, block)
        self.infos[name] = TensorInfo(info.shape, torch.bfloat16, info.stored, info.size_bytes)

    def _add_mxfp4(self, name: str, info: TensorInfo) -> None:
        scales = self._source.infos.get(name + _SCALES)
        if scales is None or scales.shape != info.shape[:-1] or info.shape[-1:] != (16,):
            raise WeightsError(f"{self.where}: {name}{_BLOCKS} has no {name}{_SCALES} of its shape")
        *outer, rows, groups, _ = info.shape
        self._packed[name] = _Mxfp4(name)
        shape = (*outer, groups * 32, rows)
        self.infos[name] = TensorInfo(shape, torch.bfloat16, "mxfp4", info.size_bytes + scales.size_bytes)


def from_fp8(weight: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """Numbers of 8 bits times their blocks' scales: (out, in) bfloat16.

    Args:
        weight: (out, in), float8.
        scale: (out / rows of a block, in / columns of a block), rounded up, float32.
        block: Rows and columns that share a scale.
    """
    rows, columns = weight.shape
    spread = scale.float().repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return (weight.float() * spread).bfloat16()


def from_mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    """Numbers of 4 bits times powers of two: (..., groups * 32, rows) bfloat16.

    Args:
        blocks: (..., rows, groups, 16) uint8; the low half of a byte comes first.
        scales: (..., rows, groups) uint8, exponents plus 127.
    """
    table = torch.tensor(_FP4, dtype=torch.bfloat16)
    halves = torch.stack([blocks & 0x0F, blocks >> 4], -1).flatten(-2)  # ..., rows, groups, 32
    exponents = (scales.to(torch.int32) - 127).unsqueeze(-1)
    numbers = torch.ldexp(table[halves.int()], exponents).to(torch.bfloat16)
    return numbers.flatten(-2).transpose(-2, -1).contiguous()


def _is_scale(name: str, infos: Mapping[str, TensorInfo]) -> bool:
    """It is read together with what it scales."""
    if name.endswith(_SCALE):
        return name.removesuffix(_SCALE) in infos
    return name.endswith(_SCALES) and name.removesuffix(_SCALES) + _BLOCKS in infos
