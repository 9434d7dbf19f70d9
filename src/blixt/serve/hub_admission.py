"""May one more request come? The queue's bounds, and the limit that learns, if the API asks for one."""

from collections.abc import Sequence

from blixt.serve.batching import Policy
from blixt.serve.config import Limits
from blixt.serve.hub_limit import AdaptiveLimit
from blixt.serve.hub_queue import Queue
from blixt.serve.link import Link
from blixt.serve.metrics import ApiMetrics
from blixt.serve.request import Rejected, Request

MOST_RETRY_AFTER_S = 60


class Admission:
    """The door of a hub.

    Args:
        policy: What the API asks for.
        limits: The server's bounds.
        queue: Who waits.
        links: Workers that take requests; the hub's own list.
        metrics: What to count into.
    """

    def __init__(
        self, policy: Policy, limits: Limits, queue: Queue, links: Sequence[Link], metrics: ApiMetrics
    ) -> None:
        self._limits = limits
        self._queue = queue
        self._links = links
        self._metrics = metrics
        self._each = policy.max_batch_size  # what keeps a worker busy
        self.adaptive: AdaptiveLimit | None = None
        if policy.adaptive_limit:
            most = limits.max_queue + len(links)
            adaptive = AdaptiveLimit(policy.adaptive_limit, most, policy.batch_timeout_s)
            metrics.gauges["concurrency_limit"] = lambda: adaptive.value
            self.adaptive = adaptive

    def check(self, size_bytes: int, under_way: int) -> None:
        """Let a request in.

        Args:
            size_bytes: Its body's.
            under_way: How many others run and wait.

        Raises:
            Rejected: 429, there is no room.
        """
        queue, limits = self._queue, self._limits
        if queue.count >= limits.max_queue or queue.size_bytes + size_bytes > limits.max_queue_bytes:
            raise Rejected(429, "Too many requests are waiting; try again later.", self.retry_after_s())
        adaptive = self.adaptive
        if adaptive is not None and not adaptive.admits(under_way, self._each * len(self._links)):
            self._metrics.limited += 1
            sentence = (
                f"There are {under_way} requests under way, and more would take too long; try again later."
            )
            raise Rejected(429, sentence, self.retry_after_s())

    def answered(self, request: Request, now: float) -> None:
        """A request has its answer, or its first piece: the limit learns from it."""
        if self.adaptive is not None and request.sent_at:
            self.adaptive.observe(now, now - request.admitted_at, now - request.sent_at)

    def retry_after_s(self) -> int:
        """How long the queue needs, as far as the workers' recent speed tells."""
        speeds = [link.service_s for link in self._links if link.service_s]
        if not speeds:
            return 1
        wait_s = len(self._queue) * (sum(speeds) / len(speeds)) / len(speeds)
        return max(1, min(MOST_RETRY_AFTER_S, round(wait_s)))
