"""How tensors on disk become a model's tensors, and back: small operations, each with its inverse.

An operation maps the list of tensors that one rule reads to the list that it fills. `save(load(x)) == x` for
every `x` of the right shapes. Where a view can do, a view it is: a split along the first dimension or a
transpose of a mapped file copies nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor


class Op(Protocol):
    """One way of laying tensors out, and back."""

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """Make a model's tensors from those on disk."""
        ...

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """Make the tensors on disk from a model's: the inverse of `load`."""
        ...


@dataclass(frozen=True)
class Same:
    """As it is."""

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """The same tensors."""
        return theirs

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The same tensors."""
        return ours


@dataclass(frozen=True)
class Split:
    """One tensor on disk, several of ours: views along a dimension (fused q, k, v; fused gate and up).

    Attributes:
        sizes: Length of each part along the dimension.
        dim: The dimension; the first by default.
    """

    sizes: tuple[int, ...]
    dim: int = 0

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """(sum of sizes, ...) to one view a size."""
        (fused,) = theirs
        check_length(fused, self.dim, sum(self.sizes))
        return split(fused, self.sizes, self.dim)

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The parts, joined."""
        return [torch.cat(ours, self.dim)]


@dataclass(frozen=True)
class SplitGroups:
    """One tensor of several parts per group: q, k, v of head 0, then of head 1 (GPT-NeoX, Falcon 40B).

    Attributes:
        groups: How many groups follow one another along the first dimension.
        sizes: Rows of each part inside a group: (head_dim,) * 3 for GPT-NeoX with a group per head,
            (queries per group * head_dim, head_dim, head_dim) for Falcon with a group per key head.
    """

    groups: int
    sizes: tuple[int, ...]

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """(groups * sum of sizes, ...) to one tensor (groups * size, ...) a size."""
        (fused,) = theirs
        check_length(fused, 0, self.groups * sum(self.sizes))
        grouped = regroup(fused, 0, (self.groups, sum(self.sizes)))
        return [part.flatten(0, 1) for part in split(grouped, self.sizes, 1)]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The parts, group by group."""
        grouped = [regroup(part, 0, (self.groups, -1)) for part in ours]
        return [torch.cat(grouped, 1).flatten(0, 1)]


@dataclass(frozen=True)
class Alternate:
    """One tensor whose entries along a dimension belong to several in turn: gate, up, gate, up (gpt-oss).

    Attributes:
        parts: How many take turns.
        dim: Along which dimension.
    """

    parts: int = 2
    dim: int = -1

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """Every `parts`-th entry, starting at 0, at 1 and so on."""
        (fused,) = theirs
        if fused.shape[self.dim] % self.parts:
            raise ValueError(f"length {fused.shape[self.dim]} does not divide by {self.parts}")
        inner = _inner(fused, self.dim)
        return list(regroup(fused, inner - 1, (-1, self.parts)).unbind(inner))

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The parts, entry by entry in turn."""
        inner = _inner(ours[0], self.dim)
        return [torch.stack(ours, inner).flatten(inner - 1, inner)]


@dataclass(frozen=True)
class Transpose:
    """Every tensor with two dimensions exchanged (GPT-2's Conv1D keeps (in, out)); a view."""

    first: int = 0
    second: int = 1

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """The tensors, transposed."""
        return [tensor.transpose(self.first, self.second) for tensor in theirs]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The tensors, transposed back."""
        return self.load(ours)


@dataclass(frozen=True)
class Stack:
    """Many tensors of one shape on disk, one of ours with a new first dimension (experts)."""

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """N tensors (...) to one (N, ...)."""
        return [stack(theirs)]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """(N, ...) to N views."""
        (stacked,) = ours
        return list(stacked.unbind(0))


@dataclass(frozen=True)
class Add:
    """Every tensor with a number added when read (llama.cpp keeps Gemma's norms as 1 + w: `Add(-1.0)`).

    Computed in float32 and rounded to the tensor's own dtype.
    """

    value: float

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """The tensors plus the value."""
        return [(tensor.float() + self.value).to(tensor.dtype) for tensor in theirs]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The tensors minus the value."""
        return [(tensor.float() - self.value).to(tensor.dtype) for tensor in ours]


@dataclass(frozen=True)
class Pairs:
    """Rotary pairs laid side by side on disk, half a head apart in the model (llama.cpp's and Meta's q, k).

    Attributes:
        heads: Heads along the first dimension.
    """

    heads: int

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """Rows 0, 1, 2, 3, ... of a head to 0, 2, ..., 1, 3, ..."""
        return [self._turn(tensor, (-1, 2)) for tensor in theirs]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """Rows 0, 1, ..., n/2, ... of a head to 0, n/2, 1, ..."""
        return [self._turn(tensor, (2, -1)) for tensor in ours]

    def _turn(self, tensor: Tensor, inner: tuple[int, int]) -> Tensor:
        pairs = regroup(tensor, 0, (self.heads, *inner))
        return pairs.transpose(1, 2).flatten(0, 2)


@dataclass(frozen=True)
class Reshape:
    """Every tensor under another shape with as many numbers.

    Attributes:
        ours: The model's shape.
        theirs: The shape on disk.
    """

    ours: tuple[int, ...]
    theirs: tuple[int, ...]

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """The tensors in the model's shape."""
        return [tensor.reshape(self.ours) for tensor in theirs]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The tensors in the disk's shape."""
        return [tensor.reshape(self.theirs) for tensor in ours]


class Chain:
    """Several operations, one after another when read, backwards when written.

    Example:
        ```python
        Chain(Transpose(1, 2), Alternate(2, dim=1))  # gpt-oss: (E, in, 2 * out) to gate and up (E, out, in)
        ```
    """

    def __init__(self, *ops: Op) -> None:
        self.ops = ops

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """First to last."""
        for op in self.ops:
            theirs = op.load(theirs)
        return theirs

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """Last to first."""
        for op in reversed(self.ops):
            ours = op.save(ours)
        return ours

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.ops))})"


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape under a new first dimension: a view where they lie evenly spaced in a storage."""
    first = tensors[0]
    if len(tensors) > 1 and all(_neighbours(first, tensor) for tensor in tensors[1:]):
        starts = [tensor.storage_offset() for tensor in tensors]
        step = starts[1] - starts[0]
        if step >= first.numel() and all(b - a == step for a, b in pairwise(starts)):
            return first.as_strided((len(tensors), *first.shape), (step, *first.stride()), starts[0])
    return torch.stack(list(tensors))


def split(tensor: Tensor, sizes: Sequence[int], dim: int) -> list[Tensor]:
    """Views of so many entries along a dimension, one after another."""
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    return [tensor.narrow(dim, start, size) for start, size in zip(starts, sizes, strict=True)]


def regroup(tensor: Tensor, dim: int, sizes: tuple[int, ...]) -> Tensor:
    """The tensor with one dimension cut into several; one of `sizes` may be -1."""
    return tensor.reshape((*tensor.shape[:dim], *sizes, *tensor.shape[dim + 1 :]))


def check_length(tensor: Tensor, dim: int, wanted: int) -> None:
    """Refuse a fused tensor that does not hold exactly its parts.

    Raises:
        ValueError: With the lengths; the reader adds the tensor's name.
    """
    if tensor.shape[dim] != wanted:
        raise ValueError(f"its parts are {wanted} long along dimension {dim}, it has {tensor.shape[dim]}")


def _neighbours(first: Tensor, other: Tensor) -> bool:
    return (
        first.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        and not first.is_meta
        and (first.shape, first.stride(), first.dtype) == (other.shape, other.stride(), other.dtype)
    )


def _inner(tensor: Tensor, dim: int) -> int:
    """Where the new dimension comes to lie when `dim` is split in two."""
    return (dim if dim >= 0 else dim + tensor.dim()) + 1
