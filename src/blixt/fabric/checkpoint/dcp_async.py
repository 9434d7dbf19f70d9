"""Sharded checkpoints written while training goes on."""

import os
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, cast

import torch
import torch.distributed as dist

from blixt.fabric.checkpoint.dcp import finish, make_writer, prepare, working_place
from blixt.fabric.checkpoint.together import several

PathLike = str | os.PathLike[str]


class DirectoryWriter:
    """Copies this process's shards into CPU memory and lets torch's thread write them.

    The threads of all processes talk in a group of their own, so that they and the training do not wait for
    each other.
    """

    def __init__(self) -> None:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        on_gpu = torch.cuda.is_available()
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=on_gpu,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=on_gpu,
            )
        )
        self._group: Any = cast("Any", dist).new_group(backend="gloo") if several() else None

    def save(self, path: PathLike, content: Mapping[str, Any], storage_options: Any) -> Future[None]:
        """Stage the shards; returns what is done when the checkpoint has its name.

        That is so on rank 0; elsewhere it is done when this process's part is written.
        """
        import torch.distributed.checkpoint as dcp

        tensors, rest = prepare(content)
        place = working_place(path)
        if self._group is None:
            raise RuntimeError("a sharded checkpoint in the background needs a process group")
        response: Any = cast("Any", dcp).async_save(
            tensors,
            storage_writer=make_writer(place, storage_options),
            process_group=self._group,
            async_stager=self._stager,
        )
        written: Future[Any] = getattr(response, "upload_completion", response)
        done: Future[None] = Future()

        def name_it(result: Future[Any]) -> None:
            try:
                result.result()
                if dist.get_rank() == 0:
                    finish(place, path, rest, storage_options)
                done.set_result(None)
            except BaseException as error:  # handed to whoever waits
                done.set_exception(error)

        written.add_done_callback(name_it)
        return done

    def close(self) -> None:
        """Let go of the staging memory and its threads."""
        self._stager.close()
