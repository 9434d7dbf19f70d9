"""Where the units of a build run: the three verbs that an executor has."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from blixt.data.build.feed import Feed
from blixt.data.build.job import Done, Job
from blixt.data.build.pool import Pool, run_inline
from blixt.data.build.settings import Patience
from blixt.data.build.task import Task
from blixt.data.schema import Schema


@dataclass(frozen=True, slots=True)
class Hands:
    """The processes of this machine that do the work; `workers` 0 is this process itself."""

    workers: int
    patience: Patience = field(default_factory=Patience)
    start_method: str = "forkserver"

    def run(self, task: Task, feed: Feed, schema: Schema | None) -> Iterator[Done]:
        """Do the units of a feed, in any order."""
        if not self.workers:
            return run_inline(task, feed, schema)
        return Pool(task, self.workers, self.patience, self.start_method).run(feed, schema)


class Executor(ABC):
    """Decides which units this process does, and has them done.

    Attributes:
        shared: whether other processes work on the same job; all of them then wait for the last unit, and
            each tries to publish, which one of them does.
        machines: how many processes share the units, as far as this one knows; decides how small units are.
        run_id: names this run where several machines share it, None when nothing does.
        heeds_failures: whether the failure of one process is the failure of all.
    """

    shared: bool = False
    machines: int = 1
    run_id: str | None = None
    heeds_failures: bool = False

    @abstractmethod
    def claim(self, job: Job, missing: Collection[int]) -> int | None:
        """Take one of the units that are not done yet; None when others are on all of them."""

    @abstractmethod
    def run(self, task: Task, feed: Feed, schema: Schema | None, hands: Hands) -> Iterator[Done]:
        """Do the units of the feed and yield each when it is done, in any order."""

    @abstractmethod
    def finish(self, job: Job, failure: BaseException | None) -> None:
        """Give back what is held: the build is published, or has failed."""
