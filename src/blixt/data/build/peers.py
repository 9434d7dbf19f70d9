"""What a process sees of the others that share its job: that they failed, published, or are silent."""

import contextlib
import json
from collections.abc import Collection
from uuid import uuid4

from blixt.data.build.commit import gone
from blixt.data.build.executors import Executor
from blixt.data.build.job import Job
from blixt.data.errors import BuildError, DataError
from blixt.data.store import NotFoundError


class Peers:
    """The other processes of a shared job.

    Args:
        job: the job.
        executor: this process's executor.
    """

    def __init__(self, job: Job, executor: Executor) -> None:
        self._job = job
        self._executor = executor
        self._old = set(self._failures())

    def have_published(self) -> bool:
        """Return whether another process has published the job, so that its notes may be gone."""
        return self._job.shared and self._job.committed() is not None

    def check(self, missing: Collection[int], silent_s: float, wait_s: float) -> None:
        """Look whether there is still something to wait for.

        Raises:
            BuildError: when another rank failed, when none made progress for `wait_s`, or when the job was
                removed.
        """
        if self._executor.heeds_failures:
            for path in self._failures():
                if path not in self._old:
                    raise BuildError(f"another rank failed: {self._message(path)}")
        if not self._job.exists():
            raise BuildError(gone(self._job))
        if silent_s > wait_s:
            some = ", ".join(map(str, list(missing)[:5]))
            raise BuildError(
                f"waited {silent_s:.0f} s for other machines, which finished no unit meanwhile; "
                f"{len(missing)} units are missing ({some} ...); look whether they run with equal inputs and "
                "settings, then run the same call again: finished units are kept"
            )

    def _failures(self) -> list[str]:
        if not (self._job.shared and self._executor.heeds_failures):
            return []
        return [path for path, _ in self._job.store.list(f"{self._job.folder}/failed")]

    def _message(self, path: str) -> str:
        try:
            return json.loads(self._job.store.get(path))["message"]
        except NotFoundError:
            return "its message is gone"


def tell_failure(job: Job, executor: Executor, failure: BaseException) -> None:
    """Leave a note of this process's failure for the others, who would wait for its units in vain."""
    if executor.shared and executor.heeds_failures:
        note = json.dumps({"message": f"{type(failure).__name__}: {failure}"}).encode()
        with contextlib.suppress(DataError):  # what went wrong first is what the user has to hear
            job.store.put(f"{job.folder}/failed/{uuid4().hex}.json", note)
