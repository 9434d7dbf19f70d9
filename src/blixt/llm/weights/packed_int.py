"""Checkpoints of GPTQ and AWQ, whole numbers of few bits in int32, read as plain tensors.

Both keep a linear layer `x` as `x.qweight`, `x.qzeros`, `x.scales` (groups of inputs, out) and mean
`weight[in, out] = scale * (number - zero)`. GPTQ (Frantar et al. 2022, arXiv:2210.17323; the layout is
AutoGPTQ's) packs numbers along the inputs, has `x.g_idx` with the group of each input, and in its first
version stores zeros minus one. AWQ (Lin et al. 2023, arXiv:2306.00978) packs them along the outputs, in an
order of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError
from blixt.llm.weights.source import Source, TensorInfo

NUMBERS, ZEROS, SCALES, GROUPS = ".qweight", ".qzeros", ".scales", ".g_idx"
_WORD = 32  # bits of the integers that hold the numbers
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output that each four bits of a word belong to, lowest bits first


@dataclass(frozen=True)
class Scheme:
    """How numbers are packed.

    Attributes:
        awq: As AWQ does it; else as GPTQ does.
        bits: Of one number: 2, 4 or 8, of AWQ 4.
        offset: What is added to a stored zero.
    """

    awq: bool
    bits: int
    offset: int

    @classmethod
    def of(cls, quantisation: Mapping[str, Any]) -> "Scheme":
        """From `quantization_config`.

        Raises:
            WeightsError: It is of a kind that is not read.
        """
        method, bits = quantisation.get("quant_method"), quantisation.get("bits", quantisation.get("w_bit"))
        version = str(quantisation.get("version", "gemm")).lower()
        layout = quantisation.get("checkpoint_format", "gptq")
        if method == "awq" and bits == 4 and version == "gemm":
            return cls(awq=True, bits=4, offset=0)
        if method == "gptq" and bits in (2, 4, 8) and layout in ("gptq", "gptq_v2"):
            return cls(awq=False, bits=bits, offset=int(layout == "gptq"))
        raise WeightsError(
            f"weights packed by quant_method={method!r} with bits={bits}, version={version!r}, "
            f"checkpoint_format={layout!r} are not read: only gptq with 2, 4 or 8 bits in the formats gptq "
            "and gptq_v2, and awq with 4 bits in the version gemm"
        )

    @property
    def per_word(self) -> int:
        """Numbers in an integer."""
        return _WORD // self.bits

    def shape(self, packed: tuple[int, ...]) -> tuple[int, int]:
        """(out, in) of a layer, from its packed numbers' shape."""
        rows, columns = packed
        return (columns * self.per_word, rows) if self.awq else (columns, rows * self.per_word)

    def columns(self, words: Tensor) -> Tensor:
        """Numbers packed along the last dimension: (N, M) int32 to (N, M * per_word) int32."""
        order = _AWQ_ORDER if self.awq else range(self.per_word)
        shifts = torch.empty(self.per_word, dtype=torch.int32)
        shifts[list(order)] = torch.arange(0, _WORD, self.bits, dtype=torch.int32)
        return ((words.unsqueeze(-1) >> shifts) & ((1 << self.bits) - 1)).flatten(-2)


def from_packed(
    numbers: Tensor, zeros: Tensor, scales: Tensor, groups: Tensor | None, scheme: Scheme
) -> Tensor:
    """A linear layer's weight, (out, in) in the dtype of the scales.

    Args:
        numbers: (in / per_word, out) of GPTQ, (in, out / per_word) of AWQ; int32.
        zeros: (groups, out / per_word) int32.
        scales: (groups, out).
        groups: The group of each input, (in,); None means equal groups in order.
        scheme: How they are packed.
    """
    whole = scheme.columns(numbers) if scheme.awq else scheme.columns(numbers.T).T  # (in, out)
    offset = (scheme.columns(zeros) + scheme.offset) & ((1 << scheme.bits) - 1)  # (groups, out)
    if groups is None:
        groups = torch.arange(len(whole)) // (len(whole) // len(scales))
    number = groups.long()
    return ((whole - offset[number]).float() * scales.float()[number]).to(scales.dtype).T.contiguous()


class UnpackedInts:
    """A source whose packed layers look plain.

    Args:
        source: Of the files.
        scheme: How numbers are packed.

    Raises:
        WeightsError: A layer's tensors are missing or do not fit each other.
    """

    def __init__(self, source: Source, scheme: Scheme) -> None:
        self.where = source.where
        self._source, self._scheme = source, scheme
        self._layers = {name.removesuffix(NUMBERS) for name in source.infos if name.endswith(NUMBERS)}
        self.infos: dict[str, TensorInfo] = {}
        for name, info in source.infos.items():
            layer, dot, leaf = name.rpartition(".")
            if layer not in self._layers or dot + leaf not in (NUMBERS, ZEROS, SCALES, GROUPS):
                self.infos[name] = info
            elif dot + leaf == NUMBERS:
                self.infos[f"{layer}.weight"] = self._info(layer, info)

    def get(self, name: str) -> Tensor:
        """A tensor, unpacked when it is packed."""
        layer = name.removesuffix(".weight")
        if layer not in self._layers or not name.endswith(".weight"):
            return self._source.get(name)
        parts = [self._source.get(layer + part) for part in (NUMBERS, ZEROS, SCALES)]
        groups = self._source.get(layer + GROUPS) if layer + GROUPS in self._source.infos else None
        if groups is not None and not 0 <= int(groups.min()) <= int(groups.max()) < len(parts[2]):
            raise WeightsError(f"{self.where}: {layer}{GROUPS} names a group that {layer}{SCALES} has not")
        return from_packed(parts[0], parts[1], parts[2], groups, self._scheme)

    def file_of(self, name: str) -> Path:
        """The file that holds it."""
        layer = name.removesuffix(".weight")
        return self._source.file_of(layer + NUMBERS if layer in self._layers else name)

    def will_need(self) -> None:
        """Let the system read ahead."""
        self._source.will_need()

    def _info(self, layer: str, numbers: TensorInfo) -> TensorInfo:
        infos = self._source.infos
        lacking = [part for part in (ZEROS, SCALES) if layer + part not in infos]
        if lacking:
            raise WeightsError(f"{self.where} holds {layer}{NUMBERS} without {layer}{lacking[0]}")
        zeros, scales = infos[layer + ZEROS], infos[layer + SCALES]
        rows, inputs = self._scheme.shape(numbers.shape)
        count = scales.shape[0]
        fits = scales.shape == (count, rows) and zeros.shape == (count, rows // self._scheme.per_word)
        groups = infos.get(layer + GROUPS)
        whole = groups.shape == (inputs,) if groups is not None else count and inputs % count == 0
        if not fits or not whole or {numbers.dtype, zeros.dtype} != {torch.int32}:
            raise WeightsError(
                f"{self.where}: {layer}{NUMBERS} of shape {numbers.shape}, {ZEROS[1:]} {zeros.shape} and "
                f"{SCALES[1:]} {scales.shape} do not make a layer of {self._scheme.bits} bits"
            )
        size = numbers.size_bytes + zeros.size_bytes + scales.size_bytes
        return TensorInfo((rows, inputs), scales.dtype, f"int{self._scheme.bits}", size)
