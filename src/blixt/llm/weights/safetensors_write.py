"""Write safetensors tensor by tensor: one is in memory at a time, and a file appears whole or not at all."""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from blixt.llm.errors import WeightsError
from blixt.llm.weights.safetensors_file import NAMES
from blixt.llm.weights.source import TensorInfo

CHECKSUM = "blixt.crc32"
SAVE_ID = "blixt.save"
_PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Shard:
    """One file to be written.

    Attributes:
        file: Its name.
        infos: Shape and dtype of its tensors, in the order they will come.
    """

    file: str
    infos: dict[str, TensorInfo]

    @property
    def size_bytes(self) -> int:
        """Size of its tensors."""
        return sum(info.size_bytes for info in self.infos.values())


def plan_shards(infos: Mapping[str, TensorInfo], max_bytes: int) -> list[Shard]:
    """Cut tensors into files, in order, none above `max_bytes` unless one tensor is."""
    groups: list[dict[str, TensorInfo]] = [{}]
    filled = 0
    for name, info in infos.items():
        if groups[-1] and filled + info.size_bytes > max_bytes:
            groups.append({})
            filled = 0
        groups[-1][name] = info
        filled += info.size_bytes
    if len(groups) == 1:
        return [Shard("model.safetensors", groups[0])]
    count = len(groups)
    return [Shard(f"model-{i:05}-of-{count:05}.safetensors", group) for i, group in enumerate(groups, 1)]


class ShardWriter:
    """Writes one shard's tensors as they come, beside where it shall be.

    Args:
        path: Of the finished file.
        shard: What it will hold.
        metadata: Texts for the header.
    """

    def __init__(self, path: Path, shard: Shard, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._left = list(shard.infos.items())
        self._header = _header(shard, metadata)
        self._file: BinaryIO = self.partial.open("wb")
        self._file.write(self._header)
        self._crc = 0

    def write(self, name: str, tensor: Tensor) -> None:
        """Append a tensor; it must be the next one.

        Raises:
            WeightsError: It is another one, or of another shape or dtype than announced.
        """
        expected, info = self._left.pop(0)
        if (name, tuple(tensor.shape), tensor.dtype) != (expected, info.shape, info.dtype):
            raise WeightsError(f"{self.path}: {name} came where {expected} {info.shape} was announced")
        for piece in _pieces(tensor):
            self._crc = zlib.crc32(piece, self._crc)
            self._file.write(piece)

    @property
    def checksum(self) -> str:
        """Of the numbers written so far."""
        return f"{self._crc:08x}"

    def close(self, save_id: str = "") -> None:
        """End the file: its checksum, and everything on the disk.

        Args:
            save_id: What all files of one save have in common, as long as the one in the metadata.
        """
        self._stamp(CHECKSUM, self.checksum)
        if save_id:
            self._stamp(SAVE_ID, save_id)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _stamp(self, key: str, text: str) -> None:
        """Write a text of the header in place."""
        mark = f'"{key}":"'.encode()
        self._file.seek(self._header.index(mark) + len(mark))
        self._file.write(text.encode())

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self.partial.unlink(missing_ok=True)


@contextmanager
def publishing(directory: Path, needed_bytes: int) -> Generator[list[ShardWriter]]:
    """Collect writers; at the end all their files appear, and after an error none.

    Args:
        directory: Where they will be; it must exist.
        needed_bytes: Checked against the disk's free space first.

    Raises:
        WeightsError: The disk has no room.
    """
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise WeightsError(
            f"{directory} needs {needed_bytes / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free"
        )
    writers: list[ShardWriter] = []
    try:
        yield writers
    except BaseException:
        for writer in writers:
            writer.abandon()
        raise
    for writer in writers:
        os.replace(writer.partial, writer.path)


def write_atomically(path: Path, text: str) -> None:
    """Replace a small text file whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)


def write_tensors(
    directory: Path,
    shards: Sequence[Shard],
    tensors: Callable[[], Iterator[tuple[str, Tensor]]],
    metadata: Mapping[str, str],
) -> None:
    """Write shards from a stream of tensors in the announced order, then the index; remove what it replaces.

    Args:
        directory: Must exist.
        shards: From `plan_shards`.
        tensors: Gives them one after another.
        metadata: Texts for every header.
    """
    save_id = ""
    texts = {"format": "pt", **metadata, **({SAVE_ID: "0" * 8} if len(shards) > 1 else {})}
    stream = tensors()
    with publishing(directory, sum(shard.size_bytes for shard in shards)) as writers:
        for shard in shards:
            writer = ShardWriter(directory / shard.file, shard, texts)
            writers.append(writer)
            for _ in shard.infos:
                writer.write(*next(stream))
        if len(shards) > 1:
            sums = "".join(writer.checksum for writer in writers)
            save_id = f"{zlib.crc32(sums.encode()):08x}"
        for writer in writers:
            writer.close(save_id)
    if len(shards) > 1:
        _write_index(directory, shards, save_id)
    _remove_replaced(directory, shards)


def _write_index(directory: Path, shards: Sequence[Shard], save_id: str) -> None:
    weight_map = {name: shard.file for shard in shards for name in shard.infos}
    total = sum(shard.size_bytes for shard in shards)
    index = {"metadata": {"total_size": total, SAVE_ID: save_id}, "weight_map": weight_map}
    write_atomically(directory / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")


def _remove_replaced(directory: Path, shards: Sequence[Shard]) -> None:
    """The files of a save before this one, which a reader must not take for part of it."""
    kept = {shard.file for shard in shards}
    if len(shards) == 1:
        (directory / "model.safetensors.index.json").unlink(missing_ok=True)
    for file in directory.glob("model*.safetensors"):
        if file.name not in kept:
            file.unlink()


def _header(shard: Shard, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {**metadata, CHECKSUM: "0" * 8}}
    at = 0
    for name, info in shard.infos.items():
        end = at + info.size_bytes
        entries[name] = {"dtype": NAMES[info.dtype], "shape": list(info.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)  # so that tensors of whole 64-byte rows lie aligned
    return len(text).to_bytes(8, "little") + text


def _pieces(tensor: Tensor) -> Iterator[memoryview]:
    """The tensor's bytes in pieces, without a copy of the whole when it is contiguous on the CPU."""
    plain = tensor.detach().cpu().contiguous()
    if not plain.numel():
        return
    raw = memoryview(cast("Any", plain.reshape(-1).view(torch.uint8).numpy()))
    for start in range(0, len(raw), _PIECE_BYTES):
        yield raw[start : start + _PIECE_BYTES]
