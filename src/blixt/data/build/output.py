"""Samples in, shards in a store out: a new shard each time one is full."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

from blixt.data.build.settings import Layout
from blixt.data.errors import WriteError
from blixt.data.schema import Schema
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.write import ShardWriter
from blixt.data.store import Store

SHARDS = "shards"


class ShardOutput:
    """Write samples to shards named by `name(k)` in the store's folder of shards.

    In a local store a shard is written in place; for a bucket it is written to `scratch`, sent by a thread
    while the next one fills, and the local copy is removed.

    Args:
        store: where the shards go.
        name: the name of the k-th shard.
        layout: how large shards grow.
        dataset_id: the dataset they belong to.
        schema: the columns; the first sample decides when None.
        scratch: a folder for local copies; not used by a local store.
        uploaders: threads that send.
        uploaded: called after each shard that arrived.
    """

    def __init__(
        self,
        store: Store,
        name: Callable[[int], str],
        layout: Layout,
        dataset_id: UUID,
        schema: Schema | None,
        scratch: Path,
        uploaders: int = 2,
        uploaded: Callable[[], None] | None = None,
    ) -> None:
        self.schema = schema
        self.rows = 0
        self._store = store
        self._name = name
        self._layout = layout
        self._dataset_id = dataset_id
        self._folder = scratch if store.local is None else store.local / SHARDS
        self._shards: list[ShardInfo] = []
        self._open: ShardWriter | None = None
        self._senders = ThreadPoolExecutor(uploaders, "blixt-upload") if store.local is None else None
        self._sending: list[Future[None]] = []
        self._most_sending = 2 * uploaders
        self._uploaded = uploaded
        make_folder(self._folder)

    def write(self, sample: Any, where: Any) -> None:
        """Add a sample; a full shard is closed first. `where` names the sample in an error."""
        writer = self._open
        if writer is not None and self._is_full(writer):
            self._close_shard(writer)
            writer = None
        if writer is None:
            path = self._folder / self._name(len(self._shards))
            writer = self._open = ShardWriter(
                path, schema=self.schema, dataset_id=self._dataset_id, **self._layout.writer
            )
        writer.write(sample, where)
        self.rows += 1
        if self.schema is None:
            self.schema = writer.schema

    def close(self) -> tuple[ShardInfo, ...]:
        """Finish what is open, wait until everything has arrived, and return all shards in order."""
        if self._open is not None:
            self._close_shard(self._open)
        for sending in self._sending:
            sending.result()
        self._end_senders()
        return tuple(self._shards)

    def remove(self) -> None:
        """Undo everything: nothing refers to the shards."""
        if self._open is not None:
            self._open.discard()
            self._open = None
        self._end_senders()
        for shard in self._shards:
            for file in self._files_of(shard):
                self._store.delete(f"{SHARDS}/{file}")
                if self._store.local is None:
                    (self._folder / file).unlink(missing_ok=True)
        self._shards = []

    def remove_notes(self) -> None:
        """Delete what lay beside the shards until they were published."""
        for shard in self._shards:
            for note in self._files_of(shard)[1:]:
                self._store.delete(f"{SHARDS}/{note}")

    def _files_of(self, shard: ShardInfo) -> list[str]:
        """Return the names of a shard's files: itself, and the note of its keys where there are keys."""
        keyed = "key" in self._layout.writer
        return [shard.file, f"{Path(shard.file).stem}.keys"] if keyed else [shard.file]

    def _is_full(self, writer: ShardWriter) -> bool:
        rows = self._layout.chunk_rows
        return writer.size_bytes >= self._layout.chunk_bytes or (rows is not None and writer.rows >= rows)

    def _close_shard(self, writer: ShardWriter) -> None:
        self._open = None
        shard = writer.close()
        self._shards.append(shard)
        if self._senders is not None:
            self._make_room()
            self._sending.append(self._senders.submit(self._send, shard))
        elif self._uploaded is not None:
            self._uploaded()

    def _make_room(self) -> None:
        """Keep few finished shards waiting: the disk holds a bounded number of local copies."""
        while len(self._sending) >= self._most_sending:
            self._sending.pop(0).result()

    def _send(self, shard: ShardInfo) -> None:
        for file in self._files_of(shard):
            self._store.put_file(f"{SHARDS}/{file}", self._folder / file)
            (self._folder / file).unlink()
        if self._uploaded is not None:
            self._uploaded()

    def _end_senders(self) -> None:
        if self._senders is not None:
            self._senders.shutdown(cancel_futures=True)


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
