"""A run of shards: samples in, a new file each time one is full."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from blixt.data.errors import WriteError
from blixt.data.schema import Schema
from blixt.data.shard.write import ShardInfo, ShardWriter


class RollingWriter:
    """Write samples to shards of about `chunk_bytes` each, named by `name(k)` inside the folder."""

    def __init__(
        self,
        folder: Path,
        name: Callable[[int], str],
        chunk_bytes: int,
        dataset_id: UUID,
        schema: Schema | None,
    ) -> None:
        self.schema = schema
        self.shards: list[ShardInfo] = []
        self.rows = 0
        self._folder = folder
        self._name = name
        self._chunk_bytes = chunk_bytes
        self._dataset_id = dataset_id
        self._open: ShardWriter | None = None

    def write(self, sample: Any, where: str) -> None:
        """Add a sample; a full shard is published first."""
        if self._open is not None and self._open.size_bytes >= self._chunk_bytes:
            self._publish(self._open)
        if self._open is None:
            path = self._folder / self._name(len(self.shards))
            self._open = ShardWriter(path, schema=self.schema, dataset_id=self._dataset_id)
        self._open.write(sample, where)
        self.schema = self._open.schema
        self.rows += 1

    def close(self) -> list[ShardInfo]:
        """Publish what is open and return all shards in order."""
        if self._open is not None:
            self._publish(self._open)
        return self.shards

    def remove(self) -> None:
        """Delete the shards that were published; nothing refers to them yet."""
        for shard in self.shards:
            (self._folder / shard.file).unlink(missing_ok=True)
        self.shards = []

    def _publish(self, writer: ShardWriter) -> None:
        self.shards.append(writer.close())
        self._open = None


def make_folder(path: Path) -> None:
    """Create a folder for output.

    Raises:
        WriteError: when the disk refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise WriteError(
            f"cannot make folder {path}: {problem.strerror}; choose another output folder"
        ) from problem
