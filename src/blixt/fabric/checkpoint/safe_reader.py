"""Reading a distributed checkpoint's index without running what somebody may have put into it."""

import io
import os
import pickle
from pathlib import PurePosixPath
from typing import Any, cast

import torch
from torch.distributed.checkpoint import (
    DefaultLoadPlanner,
    FileSystemReader,
    Metadata,
)
from torch.distributed.checkpoint.planner import ReadItem

from blixt.fabric.checkpoint.io import is_url
from blixt.fabric.errors import CheckpointError

_SAFE = {
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata",
        "TensorProperties",
        "TensorStorageMetadata",
        "BytesStorageMetadata",
        "StorageMeta",
        "Metadata",
        "MetadataIndex",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "torch": {"Size", "device"},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict", "defaultdict"},
    "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePosixPath"},
    "builtins": {"set", "frozenset", "dict", "list", "tuple", "int", "str", "float", "bool"},
    "torch.distributed.tensor._dtensor_spec": set[str](),
}


class SafeUnpickler(pickle.Unpickler):
    """Builds the few classes an index is made of, and refuses everything else by name."""

    def find_class(self, module: str, name: str) -> Any:
        """The class, if it is one that an index may hold."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name in _SAFE.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to use {module}.{name}")


class SafePlanner(DefaultLoadPlanner):
    """Values in a checkpoint that are no tensors are read by torch's safe loader."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put a plain value where it was asked for."""
        cast("Any", self).original_state_dict[read_item.dest_index.fqn] = torch.load(value, weights_only=True)


def read_index(reader: Any) -> Metadata:
    """The index of the checkpoint that `reader` stands before, checked.

    Raises:
        CheckpointError: When it is not there, damaged, or names something that an index has no use for.
    """
    path = reader._get_metadata_path()
    try:
        with reader.fs.create_stream(path, "rb") as stream:
            index = SafeUnpickler(stream).load()
    except FileNotFoundError as error:
        raise CheckpointError(f"{reader.path} holds no complete checkpoint: there is no {path}.") from error
    except Exception as error:  # a pickle can fail in any way that its bytes please
        raise CheckpointError(
            f"The index {path} is damaged or holds more than an index needs ({error}). Nothing of it was run."
        ) from error
    if not isinstance(index, Metadata) or not isinstance(cast("object", index.storage_data), dict):
        raise CheckpointError(f"The index {path} is damaged: it holds {type(index).__name__}.")
    for info in cast("dict[Any, Any]", cast("object", index.storage_data)).values():
        inner = PurePosixPath(str(info.relative_path))
        if inner.is_absolute() or ".." in inner.parts:
            raise CheckpointError(f"The index {path} points outside of its checkpoint, to {inner}.")
    return index


def make_reader(path: str | os.PathLike[str]) -> FileSystemReader:
    """A reader of torch's for a directory or an fsspec URL, with the checked index in place of its own."""
    if is_url(path):
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

        base: Any = FsspecReader
    else:
        base = FileSystemReader

    class Reader(base):
        """torch's reader, which finds the index checked."""

        def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
            """The index, see `read_index`."""
            return read_index(self)

    return cast("FileSystemReader", Reader(os.fspath(path)))
