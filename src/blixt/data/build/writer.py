"""Write a dataset from a loop of your own."""

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

from blixt.data.build.commit import Origin, publish_shards
from blixt.data.build.leftovers import WRITERS, sweep
from blixt.data.build.lock import remove_if_empty
from blixt.data.build.output import ShardOutput
from blixt.data.build.owner import Owner
from blixt.data.build.scratch import scratch_folder
from blixt.data.build.settings import Layout
from blixt.data.crypto import Encryption
from blixt.data.errors import DataError, WriteError
from blixt.data.keys import KeyOf
from blixt.data.sizes import parse_size
from blixt.data.snapshot import Mode, Snapshot, check_mode, latest_version, load
from blixt.data.store import Credentials, open_store


class DatasetWriter:
    """Write samples one by one; the end of the `with` block publishes them as one new version.

    Leaving the block by an exception publishes nothing. What a killed writer had written is removed by the
    next writer or build in the same place, or by `prune`.

    Args:
        output: the dataset's folder or bucket address.
        chunk_bytes: about how large a shard may grow.
        chunk_size: how many samples a shard may have; None for any number.
        mode: None or "error" when a dataset is there, "append" to it, or "overwrite" it.
        compress: "zstd" or "zstd:LEVEL" for the blocks of variable columns.
        encrypt: an `Encryption`, for AES-GCM of every block.
        key: a column (or a function of a sample) by which rows can be looked up.
        key_duplicates: what a key that occurs twice means: an error, or whether its first or last row has it.
        allow_pickle: whether samples may hold `Pickle` values.
        credentials: for `output`.
        options: for `output`, such as `{"endpoint": ...}`.
        num_uploaders: shards sent at a time, when `output` is a bucket.
        scratch_dir: where shards wait to be sent; None is the system's folder for temporary files.

    Example:
        >>> import tempfile
        >>> with DatasetWriter(tempfile.mkdtemp()) as writer:
        ...     writer.write({"x": 1.5})
        >>> writer.snapshot.rows
        1
    """

    def __init__(
        self,
        output: str | Path,
        *,
        chunk_bytes: str | int = "64MB",
        chunk_size: int | None = None,
        mode: Mode | None = None,
        compress: str | None = None,
        encrypt: Encryption | None = None,
        key: KeyOf | None = None,
        key_duplicates: Literal["error", "first", "last"] = "error",
        allow_pickle: bool = False,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        num_uploaders: int = 2,
        scratch_dir: str | Path | None = None,
    ) -> None:
        self.snapshot: Snapshot | None = None
        self._store = open_store(output, credentials=credentials, options=options)
        self._store.check_writable()
        self._mode: Mode = mode or "error"
        check_mode(self._store, self._mode)
        self._since, schema = latest_version(self._store), None
        self._dataset_id = uuid4()
        if mode == "append" and self._since:
            base = load(self._store)
            self._dataset_id, schema = base.dataset_id, base.schema
        sweep(self._store)
        self._run = uuid4().hex[:12]
        self._note = f"{WRITERS}/{self._run}.json"
        self._sign()
        writer = {"compress": compress, "encrypt": encrypt, "key": key, "allow_pickle": allow_pickle or None}
        layout = self._layout = Layout(
            parse_size(chunk_bytes),
            chunk_size,
            {name: value for name, value in writer.items() if value is not None},
            key_duplicates,
        )
        self._held = ExitStack()
        base = None if scratch_dir is None else str(scratch_dir)
        scratch = self._store.local or self._held.enter_context(scratch_folder(base))
        self._output = ShardOutput(
            self._store,
            lambda k: f"{self._run}-{k:06d}.shard",
            layout,
            self._dataset_id,
            schema,
            scratch,
            num_uploaders,
            self._sign_again,
        )

    def write(self, sample: Any) -> None:
        """Add one sample.

        Raises:
            SchemaError: when it does not fit the columns.
        """
        self._output.write(sample, self)

    def __str__(self) -> str:
        """Name the next sample, for errors."""
        return f"sample {self._output.rows}"

    def close(self) -> Snapshot:
        """Publish the version.

        Raises:
            DataError: when nothing was written, or the writer was silent so long that it was taken for dead.
        """
        if self.snapshot is not None:
            return self.snapshot
        shards = self._output.close()
        try:
            if self._output.schema is None or not shards:
                raise DataError(
                    f"nothing was written to {self._store.location}: a dataset needs at least one sample"
                )
            if self._store.size(self._note) is None:
                raise DataError(
                    f"this writer was silent for so long that its shards in {self._store.location} were "
                    "removed as those of a dead one; write again"
                )
            origin = Origin(self._store, self._dataset_id, self._run, self._since)
            self.snapshot = publish_shards(origin, self._output.schema, shards, self._mode, self._layout)
            self._output.remove_notes()
        finally:
            self._release()
        return self.snapshot

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._output.remove()
            self._release()

    def _sign_again(self) -> None:
        """Renew the note after a shard; one that is gone must not come back, for the shards went with it."""
        if self._store.size(self._note) is not None:
            self._sign()

    def _sign(self) -> None:
        """Note that this writer lives: its shards are nobody else's to remove."""
        note = {"name": self._run, "owner": Owner.current().to_json(), "at": time.time()}
        for last in (False, False, True):
            try:
                return self._store.put(self._note, json.dumps(note).encode())
            except WriteError as problem:
                # Somebody who ended just then removed the empty folder of notes.
                if last or not isinstance(problem.__cause__, FileNotFoundError):
                    raise

    def _release(self) -> None:
        self._held.close()
        self._store.delete(self._note)
        if self._store.local is not None:
            remove_if_empty(self._store.local)
