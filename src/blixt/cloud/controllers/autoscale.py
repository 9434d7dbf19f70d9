"""How many replicas a deployment should have: one pure function of what was asked and what is seen."""

from dataclasses import dataclass

SCALE_DOWN_S = 30.0


@dataclass(frozen=True)
class Demand:
    """What is seen at one moment.

    Attributes:
        load: Requests in flight and waiting.
        replicas: Replicas there are or that are starting.
        idle_s: Seconds since the last request.
        below_s: Seconds for which fewer replicas would have been enough.
    """

    load: int
    replicas: int
    idle_s: float
    below_s: float


@dataclass(frozen=True)
class Bounds:
    """What was asked."""

    minimum: int
    maximum: int
    concurrency: int
    idle_timeout_s: float


def enough(load: int, bounds: Bounds) -> int:
    """The fewest replicas that carry a load, within the bounds."""
    needed = -(-load // bounds.concurrency)
    return max(bounds.minimum, min(needed, bounds.maximum))


def wanted(demand: Demand, bounds: Bounds) -> int:
    """The number of replicas to have now.

    Up at once; down only after a while, so that a short pause costs no restart; to zero after the idle time.

    >>> bounds = Bounds(minimum=0, maximum=4, concurrency=8, idle_timeout_s=60)
    >>> wanted(Demand(load=17, replicas=1, idle_s=0, below_s=0), bounds)
    3
    >>> wanted(Demand(load=0, replicas=1, idle_s=10, below_s=10), bounds)
    1
    >>> wanted(Demand(load=0, replicas=1, idle_s=60, below_s=60), bounds)
    0
    """
    needed = enough(demand.load, bounds)
    if needed >= demand.replicas:
        return needed
    if demand.load == 0 and demand.idle_s >= bounds.idle_timeout_s:
        return bounds.minimum
    if demand.below_s >= min(SCALE_DOWN_S, bounds.idle_timeout_s):
        return max(needed, 1)
    return min(demand.replicas, bounds.maximum)


def backoff_s(failures: int) -> float:
    """How long to wait before a replacement after so many failures in a row.

    >>> [backoff_s(n) for n in (1, 2, 3, 9)]
    [0.25, 0.5, 1.0, 30.0]
    """
    return min(30.0, 0.25 * 2 ** (failures - 1))
