"""A state inside a sharded checkpoint, whose tensors are read when somebody asks for them."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pickle import UnpicklingError
from typing import Any, cast

import torch

from blixt.fabric.errors import CheckpointError

PathLike = str | os.PathLike[str]
Keys = tuple[str, ...]


class LazyState(Mapping[str, Any]):
    """Looks like the nested dict that was saved; looking at a tensor reads it, whole, onto the CPU.

    Args:
        path: The checkpoint's directory or URL.
        prefix: The state's place in it.
        values: What of the state is no tensor.
    """

    def __init__(self, path: PathLike, prefix: Keys, values: Mapping[Any, Any]) -> None:
        self.path = path
        self.prefix = prefix
        self.values_only = dict(values)
        self._entries: dict[Keys, str] | None = None
        self._index: Any = None

    @property
    def entries(self) -> dict[Keys, str]:
        """Keys to each tensor below this state, and its name in the checkpoint's index."""
        if self._entries is None:
            size = len(self.prefix)
            paths = cast("dict[str, Keys]", self.index.planner_data or {})
            own = {tuple(map(str, keys)): name for name, keys in paths.items()}
            self._entries = {k[size:]: n for k, n in own.items() if k[:size] == self.prefix and len(k) > size}
        return self._entries

    @property
    def index(self) -> Any:
        """The checkpoint's index, see `safe_reader.read_index`."""
        if self._index is None:
            from blixt.fabric.checkpoint.safe_reader import make_reader

            self._index = make_reader(self.path).read_metadata()
        return self._index

    def describe(self, name: str) -> tuple[torch.Size, torch.dtype]:
        """Shape and type of the tensor with this name in the index."""
        entry = self.index.state_dict_metadata[name]
        return entry.size, entry.properties.dtype

    def read_into(self, targets: Mapping[Keys, Any]) -> dict[Keys, Any]:
        """Fill tensors, whole ones or shards, with what is saved under their keys.

        Returns:
            The targets; in place of what is no tensor (torch's own tools keep such values there as well), the
            value that is saved.
        """
        import torch.distributed.checkpoint as dcp

        from blixt.fabric.checkpoint.safe_reader import SafePlanner, make_reader

        flat = {self.entries[keys]: target for keys, target in targets.items()}
        if not flat:
            return {}
        unreadable = (
            OSError,
            RuntimeError,
            ValueError,
            EOFError,
            UnpicklingError,
            dcp.api.CheckpointException,
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # every process reads for itself, on purpose
                planner = SafePlanner(flatten_state_dict=False)
                cast("Any", dcp).load(
                    flat, storage_reader=make_reader(self.path), planner=planner, no_dist=True
                )
        except unreadable as error:
            detail = str(error).strip().splitlines()[-1]
            raise CheckpointError(f"The checkpoint {self.path} could not be read: {detail}") from error
        return {keys: flat[self.entries[keys]] for keys in targets}

    def load(self) -> dict[str, Any]:
        """The whole state, as a nested dict on the CPU."""
        values = self.read_into({keys: self._empty(name) for keys, name in self.entries.items()})
        state: dict[str, Any] = _copy(self.values_only)
        for keys, value in values.items():
            inner = state
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = value
        return state

    def only(self, names: Iterable[str]) -> "LazyState":
        """The same state, as if it held nothing but what begins with one of `names`."""
        kept = set(names)
        part = LazyState(self.path, self.prefix, {k: v for k, v in self.values_only.items() if k in kept})
        part._entries = {keys: name for keys, name in self.entries.items() if keys[0] in kept}
        part._index = self._index
        return part

    def load_for(self, names: Iterable[str]) -> dict[str, Any]:
        """An optimizer's state, whole, of the parameters called `names` alone."""
        kept = set(names)
        part = LazyState(self.path, self.prefix, self.values_only)
        part._entries = {k: name for k, name in self.entries.items() if len(k) > 1 and k[1] in kept}
        part._index = self._index
        return part.load()

    def _empty(self, name: str) -> Any:
        if not hasattr(self.index.state_dict_metadata[name], "size"):
            return b""  # stands for a value that is no tensor
        size, dtype = self.describe(name)
        return torch.empty(size, dtype=dtype)

    def __getitem__(self, key: str) -> Any:
        if (key,) in self.entries:
            return self.read_into({(key,): self._empty(self.entries[key,])})[key,]
        if any(keys[0] == key for keys in self.entries):
            inner = self.values_only.get(key, {})
            return LazyState(self.path, (*self.prefix, key), inner)
        return self.values_only[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*(keys[0] for keys in self.entries), *self.values_only]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _copy(values: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        key: _copy(cast("Mapping[Any, Any]", value)) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }
