"""When does a worker get how many of the waiting requests? Pure functions; the hub acts on them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

MAX_CREDIT = 256
WORK_AHEAD_S = 0.002
SLOW_S = 0.02  # from here on the way to the worker is lost in the work: 1 % of it at most


@dataclass(frozen=True, slots=True)
class Policy:
    """How one API wants its requests grouped and tried.

    Args:
        max_batch_size: Above 1, `predict` receives up to so many requests at once.
        batch_timeout_s: How long the oldest request may wait for company.
        slots: Above 0, a worker works on so many requests (if batched: on so many batches) side by side.
        stream: Answers come in pieces.
        max_cost: Above 0, the costs of a batch's requests sum to at most this.
        retries: How often a request is tried again after its worker died over it.
        cache_s: Above 0, an answer may be given again for so long.
        cache_bytes: What all kept answers may hold together.
        context_fields: What hooks see of a request besides its body.
        adaptive_limit: Above 0, how many times the usual time a request may take before others are refused.
    """

    max_batch_size: int = 1
    batch_timeout_s: float = 0.0
    slots: int = 0
    stream: bool = False
    max_cost: float = 0.0
    retries: int = 0
    cache_s: float = 0.0
    cache_bytes: int = 0
    context_fields: tuple[str, ...] = ()
    adaptive_limit: float = 0.0

    @property
    def batched(self) -> bool:
        """Whether `predict` receives lists."""
        return self.max_batch_size > 1


def credit(policy: Policy, service_s: float) -> int:
    """How many requests an unbatched worker may hold, running one included.

    About two milliseconds of work: enough to hide the way to the worker. A slow model's worker holds one,
    because a request that waits behind a long one cannot go to another worker that becomes idle.
    """
    if policy.slots:
        return policy.slots
    if service_s <= 0.0:
        return 2
    if service_s >= SLOW_S:
        return 1
    return max(2, min(MAX_CREDIT, int(WORK_AHEAD_S / max(service_s, 1e-6))))


def batch_now(
    policy: Policy, waiting: int, oldest_s: float, in_flight: int, *, full: bool | None = None
) -> int:
    """How many of the waiting requests form a worker's next batch now; 0 means hold.

    A full batch goes to a worker that has at most one batch (running, so one is prefetched), or to one that
    works on several batches at once and has room. A partial one goes only to an idle worker, once the oldest
    request has waited `batch_timeout_s`.

    Args:
        policy: How the API batches.
        waiting: How many requests could be in the batch.
        oldest_s: How long the oldest has waited.
        in_flight: Requests the worker holds.
        full: Whether the batch cannot grow; None: if it has `max_batch_size` requests.
    """
    size = policy.max_batch_size
    count = min(waiting, size)
    full = count == size or bool(full)
    if not count or not (full or oldest_s >= policy.batch_timeout_s):
        return 0
    if policy.slots:
        return count if in_flight + count <= size * policy.slots else 0
    return count if in_flight <= (size if full else 0) else 0


def affordable(policy: Policy, costs: Iterable[float]) -> tuple[int, bool]:
    """How many of the first requests fit `max_cost` together, and whether the next would not.

    The first always fits: a request that is dearer than the limit travels alone.
    """
    count, total = 0, 0.0
    for cost in islice(costs, policy.max_batch_size):
        if count and total + cost > policy.max_cost:
            return count, True
        count += 1
        total += cost
    return count, count == policy.max_batch_size or total >= policy.max_cost
