"""Checkpoints written while training goes on."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from blixt.fabric.checkpoint.gentle import gently
from blixt.fabric.checkpoint.plugin import CheckpointIO, WrappingCheckpointIO
from blixt.fabric.checkpoint.staging import Staging

PathLike = str | os.PathLike[str]


class AsyncCheckpointIO(WrappingCheckpointIO):
    """Copies what is to be saved into CPU memory, and lets a thread write it from there.

    Training is held up only for the copy, and of that only for what the next optimizer step cannot wait for:
    parameters and optimizer state are copied while the next forward and backward pass run. Writing takes what
    processor time training leaves, on Linux. One checkpoint is written at a time; saving another one first
    waits for it, and raises what went wrong with it.

    Args:
        checkpoint_io: What writes; a `TorchCheckpointIO` when left out.
        overlap: Let parameters and optimizer state be copied until the next optimizer step. False copies
            everything before `save_checkpoint` returns, for programs that change parameters in other ways.
    """

    def __init__(self, checkpoint_io: CheckpointIO | None = None, *, overlap: bool = True) -> None:
        super().__init__(checkpoint_io)
        self.overlap = overlap
        self._staging = Staging()
        self._directories: Any = None
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def expect_steady(self, tensors: Iterable[torch.Tensor]) -> None:
        """Hear which tensors of the next checkpoint change in optimizer steps only."""
        if self.overlap:
            self._staging.expect_steady(tensors)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any = None
    ) -> None:
        """Stage the checkpoint; it is written soon."""
        self.wait()
        copy, finish_copy = self._staging.begin(checkpoint)

        def write() -> None:
            finish_copy()  # the next optimizer step waits for this, and for nothing else
            gently(lambda: self.checkpoint_io.save_checkpoint(copy, path, storage_options))

        self._pending = self._submit(write)

    def save_directory(self, content: Mapping[str, Any], path: PathLike, storage_options: Any = None) -> None:
        """Stage a sharded checkpoint; all processes call it, and write their parts soon."""
        from blixt.fabric.checkpoint.dcp_async import DirectoryWriter

        self.wait()
        if self._directories is None:
            self._directories = DirectoryWriter()
        self._pending = self._directories.save(path, content, storage_options)

    def load_checkpoint(
        self, path: PathLike, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint, after the one that is being written."""
        self.wait()
        return super().load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: PathLike) -> None:
        """Delete a checkpoint, after what is being written; nothing is deleted when that fails.

        So an older checkpoint goes only when the newer one is there.
        """
        pending = self._pending
        if pending is None or (pending.done() and pending.exception() is None):
            return super().remove_checkpoint(path)

        def remove() -> None:
            if pending.exception() is None:
                self.checkpoint_io.remove_checkpoint(path)

        self._submit(remove)

    def wait_for_staging(self) -> None:
        """Return when live tensors may change; every optimizer step does this by itself."""
        self._staging.wait()

    def wait(self) -> None:
        """Return when everything is written; raises what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def teardown(self) -> None:
        """Write what is left and end the thread; the next save starts another one."""
        try:
            self.wait()
        finally:
            self._staging.close()
            if self._directories is not None:
                self._directories.close()
                self._directories = None
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None
            super().teardown()

    def _submit(self, action: Callable[[], None]) -> Future[None]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="blixt-checkpoint")
        return self._thread.submit(action)
