"""One file of `torch.save`: `.bin`, `.pt`, `.pth`, mapped where its format allows."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError
from blixt.llm.weights.source import TensorInfo


class TorchFile:
    """The tensors of one file; only tensors and plain containers are unpickled, never code.

    Args:
        path: The file: a dict of names to tensors, or one under "state_dict" or "model".

    Attributes:
        where: The file.
        infos: Shape and dtype of every tensor.

    Raises:
        WeightsError: It is missing, truncated, damaged, or holds something else than tensors.
    """

    def __init__(self, path: Path) -> None:
        self.where = path
        self._tensors = _tensors(_load(path), path)
        self.infos = {
            name: TensorInfo.plain(tensor.shape, tensor.dtype) for name, tensor in self._tensors.items()
        }

    def get(self, name: str) -> Tensor:
        """A tensor."""
        return self._tensors[name]

    def file_of(self, name: str) -> Path:
        """This file."""
        return self.where

    def will_need(self) -> None:
        """Nothing to do: torch maps the file itself."""


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist") from None
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} holds more than tensors, and unpickling it could run code: "
            "save the tensors alone, best as safetensors"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is damaged or truncated: {reason}") from None


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(cast("Mapping[str, Any]", loaded).get(key), Mapping):
            loaded = cast("Mapping[str, Any]", loaded)[key]
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}, not tensors by name")
    items = cast("Mapping[Any, Any]", loaded)
    return {str(name): tensor.detach() for name, tensor in items.items() if isinstance(tensor, Tensor)}
