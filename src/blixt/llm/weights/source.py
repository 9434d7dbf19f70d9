"""Named tensors on disk, whatever the format: one protocol that loading, converting and validating read."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor without reading it.

    Attributes:
        shape: Its dimensions.
        dtype: That `Source.get` gives.
        stored: How the file keeps it: "bfloat16", or a block format such as "Q4_1".
        size_bytes: Its size in the file.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    stored: str
    size_bytes: int

    @classmethod
    def plain(cls, shape: Iterable[int], dtype: torch.dtype) -> "TensorInfo":
        """A tensor that lies in the file as torch has it in memory."""
        sizes = tuple(shape)
        return cls(sizes, dtype, str(dtype).removeprefix("torch."), prod(sizes) * dtype.itemsize)

    def meta(self) -> Tensor:
        """A tensor without memory of this shape and dtype."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


class Source(Protocol):
    """Tensors by name."""

    @property
    def where(self) -> Path:
        """The file or directory, for messages."""
        ...

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor's shape and dtype, by name."""
        ...

    def get(self, name: str) -> Tensor:
        """The tensor: a view of the mapped file where the format allows, else made now."""
        ...

    def file_of(self, name: str) -> Path:
        """The file that holds it."""
        ...

    def will_need(self) -> None:
        """Let the system read ahead."""
        ...


class Shards:
    """Several files as one source.

    Args:
        where: Their directory.
        parts: The files.
        weight_map: The index's tensor to file name; None when there is no index.

    Raises:
        WeightsError: Two files hold a tensor of one name, or the index and the files disagree.
    """

    def __init__(
        self, where: Path, parts: Collection[Source], weight_map: Mapping[str, str] | None = None
    ) -> None:
        self.where = where
        self._parts = parts
        self._holder: dict[str, Source] = {}
        for part in parts:
            for name in part.infos:
                if name in self._holder:
                    raise WeightsError(
                        f"{where}: the tensor {name} is in {self.file_of(name).name} and in {part.where.name}"
                    )
                self._holder[name] = part
        self.infos = {name: part.infos[name] for name, part in self._holder.items()}
        for name, file in (weight_map or {}).items():
            if name not in self._holder or self.file_of(name).name != file:
                raise WeightsError(f"{where}: the index says that {file} holds {name}, which is not so")

    def get(self, name: str) -> Tensor:
        """The tensor from the file that holds it."""
        return self._holder[name].get(name)

    def file_of(self, name: str) -> Path:
        """The file that holds it."""
        return self._holder[name].file_of(name)

    def will_need(self) -> None:
        """Let the system read ahead in every file."""
        for part in self._parts:
            part.will_need()
