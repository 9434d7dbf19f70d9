"""Write a dataset from a loop of your own."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from blixt.data.build.rolling import RollingWriter, make_folder
from blixt.data.errors import DataError
from blixt.data.sizes import parse_size
from blixt.data.snapshot import Mode, Snapshot, check_mode, latest_version, load, publish


class DatasetWriter:
    """Write samples one by one; the end of the `with` block publishes them as one new version.

    Leaving the block by an exception publishes nothing.

    Args:
        output_dir: the dataset's folder.
        chunk_bytes: about how large a shard may grow.
        mode: "error" when a dataset is there, "append" to it, or "overwrite" it.

    Example:
        >>> import tempfile
        >>> with DatasetWriter(tempfile.mkdtemp()) as writer:
        ...     writer.write({"x": 1.5})
        >>> writer.snapshot.rows
        1
    """

    def __init__(
        self, output_dir: str | Path, *, chunk_bytes: str | int = "64MB", mode: Mode = "error"
    ) -> None:
        self.root = Path(output_dir)
        check_mode(self.root, mode)
        self.snapshot: Snapshot | None = None
        self._mode: Mode = mode
        self._dataset_id, schema = uuid4(), None
        if mode == "append" and latest_version(self.root):
            base = load(self.root)
            self._dataset_id, schema = base.dataset_id, base.schema
        make_folder(self.root / "shards")
        run = uuid4().hex[:12]
        self._rolling = RollingWriter(
            self.root / "shards",
            lambda k: f"{run}-{k:06d}.shard",
            parse_size(chunk_bytes),
            self._dataset_id,
            schema,
        )

    def write(self, sample: Any) -> None:
        """Add one sample.

        Raises:
            SchemaError: when it does not fit the columns.
        """
        self._rolling.write(sample, f"sample {self._rolling.rows}")

    def close(self) -> Snapshot:
        """Publish the version."""
        if self.snapshot is None:
            shards = self._rolling.close()
            if self._rolling.schema is None or not shards:
                raise DataError(f"nothing was written to {self.root}: a dataset needs at least one sample")
            self.snapshot = publish(self.root, self._dataset_id, self._rolling.schema, shards, self._mode)
        return self.snapshot

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._rolling.remove()
