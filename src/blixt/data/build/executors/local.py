"""The default executor: all units are ours, worker processes of this machine do them."""

from collections.abc import Collection, Iterator

from blixt.data.build.executors.base import Executor, Hands
from blixt.data.build.feed import Feed
from blixt.data.build.job import Done, Job
from blixt.data.build.task import Task
from blixt.data.schema import Schema


class Local(Executor):
    """Worker processes of this machine."""

    def claim(self, job: Job, missing: Collection[int]) -> int | None:
        """Take the first unit."""
        return next(iter(missing), None)

    def run(self, task: Task, feed: Feed, schema: Schema | None, hands: Hands) -> Iterator[Done]:
        """Do the units in worker processes."""
        return hands.run(task, feed, schema)

    def finish(self, job: Job, failure: BaseException | None) -> None:
        """Nothing is held."""
