"""When does a worker get how many of the waiting requests? Pure functions; the hub acts on them."""

from dataclasses import dataclass

MAX_CREDIT = 256
WORK_AHEAD_S = 0.002


@dataclass(frozen=True, slots=True)
class Policy:
    """How one API wants its requests grouped."""

    max_batch_size: int = 1
    batch_timeout_s: float = 0.0
    max_streams: int = 0  # > 0: the API streams, and a worker serves so many at once

    @property
    def batched(self) -> bool:
        """Whether `predict` receives lists."""
        return self.max_batch_size > 1


def credit(policy: Policy, service_s: float) -> int:
    """How many requests an unbatched worker may hold, running one included.

    About two milliseconds of work: enough to hide the way to the worker, too little to make a slow
    model's request wait behind others while a second worker idles.
    """
    if policy.max_streams:
        return policy.max_streams
    if service_s <= 0.0:
        return 2
    return max(2, min(MAX_CREDIT, int(WORK_AHEAD_S / max(service_s, 1e-6))))


def batch_now(policy: Policy, waiting: int, oldest_s: float, in_flight: int) -> int:
    """How many of the waiting requests form a worker's next batch now; 0 means hold.

    A full batch goes to a worker that has at most one batch (running, so one is prefetched). A partial one
    goes only to an idle worker, once the oldest request has waited `batch_timeout_s`.
    """
    if waiting >= policy.max_batch_size:
        return policy.max_batch_size if in_flight <= policy.max_batch_size else 0
    if in_flight or not waiting:
        return 0
    return waiting if oldest_s >= policy.batch_timeout_s else 0
