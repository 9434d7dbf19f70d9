"""A file's pages as tensors: nothing is read before it is used, and nothing is copied at all."""

import mmap
import sys
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError

# Python 3.11's mmap does not name it yet. Without it Linux refuses to map more than memory and swap can hold.
_NORESERVE = 0x4000 if sys.platform == "linux" else 0


class MappedFile:
    """A file in memory, privately: writing to a tensor of it copies the page and leaves the file alone.

    The mapping lives as long as the last tensor made from it. Replacing the file (a rename) is safe while it
    is mapped; shortening it in place is not, as with every mapping.

    Args:
        path: A file that is not empty.

    Raises:
        WeightsError: It does not exist, is empty, or is not a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.size = path.stat().st_size
                if not self.size:
                    raise WeightsError(f"{path} is empty: it was not written or downloaded to its end")
                self.bytes = _map(file.fileno())
        except FileNotFoundError:
            raise WeightsError(f"{path} does not exist") from None
        except IsADirectoryError:
            raise WeightsError(f"{path} is a directory, not a file of weights") from None

    def will_need(self) -> None:
        """Let the system read ahead, for who will use every tensor soon."""
        if hasattr(self.bytes, "madvise"):
            self.bytes.madvise(mmap.MADV_WILLNEED)

    def tensor(self, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """The numbers that begin at a byte: a view of the mapping, or a copy where they lie askew.

        Args:
            start: Offset from the file's beginning, in bytes; the caller has checked the end.
            dtype: Of the numbers on disk.
            shape: Of the tensor.
        """
        count = prod(shape)
        if not count:
            return torch.empty(shape, dtype=dtype)
        if start % dtype.itemsize:
            askew = torch.frombuffer(
                self.bytes, dtype=torch.uint8, count=count * dtype.itemsize, offset=start
            )
            return askew.clone().view(dtype).reshape(shape)
        return torch.frombuffer(self.bytes, dtype=dtype, count=count, offset=start).reshape(shape)


def _map(descriptor: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    return mmap.mmap(
        descriptor, 0, flags=mmap.MAP_PRIVATE | _NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE
    )
