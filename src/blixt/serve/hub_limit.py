"""How many requests may be under way at once, learned from how long they take.

A fixed `max_queue` is a guess: too long a queue answers nobody in time, too short a one wastes workers. With
`API.adaptive_limit=3` the limit is what keeps the time from admission to answer below three times what a
request takes when it need not wait. Above that it shrinks in proportion; as long as it holds requests back
and all goes well, it grows by half its square root.

What a request takes without waiting is measured at the workers, and its least counts. That may be out of date
(a model grew slower), and under a steady load nothing would show it: so once a minute, if requests were held
back since, the limit drops to the least for one round of answers, and what these take is the new measure.
"""

from dataclasses import dataclass

FIRST = 16.0
SAMPLES = 16
PROBE_EVERY_S = 60.0
LEAST_FACTOR = 0.5


def next_limit(limit: float, allowed_s: float, took_s: float, was_full: bool) -> float:
    """The limit after a round of answers.

    Args:
        limit: The one before.
        allowed_s: How long a request may take.
        took_s: What they took, on average.
        was_full: Whether the limit held anybody back.
    """
    if took_s > allowed_s:
        return limit * max(LEAST_FACTOR, allowed_s / took_s)
    return limit + max(1.0, limit**0.5 / 2) if was_full else limit


@dataclass(slots=True)
class AdaptiveLimit:
    """The limit of one API in one front.

    Args:
        tolerance: How many times the usual time a request may take.
        most: The limit's upper bound.
        extra_s: Time that is no sign of load: a batch's wait for company.

    Attributes:
        value: Requests that may run and wait together.
        usual_s: What a request takes at a worker when nothing is in its way; 0: not known yet.
    """

    tolerance: float
    most: float
    extra_s: float = 0.0
    value: float = FIRST
    usual_s: float = 0.0
    _count: int = 0
    _total_s: float = 0.0
    _worked_s: float = 0.0
    _was_full: bool = False
    _held_back: bool = False
    _probe_at: float = 0.0
    _before: float = 0.0

    def admits(self, under_way: int, least: int) -> bool:
        """Whether one more may come.

        Args:
            under_way: How many run and wait.
            least: So many always may: what keeps every worker busy.
        """
        if under_way < least or under_way < self.value:
            return True
        self._was_full = self._held_back = True
        return False

    def observe(self, now: float, total_s: float, worked_s: float) -> None:
        """A request has its answer, or its first piece.

        Args:
            now: By the loop's clock.
            total_s: Since its admission.
            worked_s: Since it was sent to a worker.
        """
        self._count += 1
        self._total_s += total_s
        self._worked_s += worked_s
        if self._count >= max(SAMPLES, self.value / 2):
            self._conclude(now, self._total_s / self._count, self._worked_s / self._count)
            self._count, self._total_s, self._worked_s, self._was_full = 0, 0.0, 0.0, False

    def _conclude(self, now: float, took_s: float, worked_s: float) -> None:
        if self._before:  # a probe has ended
            self.usual_s, self.value, self._before = worked_s, self._before, 0.0
            return
        self.usual_s = min(self.usual_s or worked_s, worked_s)
        allowed_s = self.tolerance * self.usual_s + self.extra_s
        self.value = min(self.most, max(1.0, next_limit(self.value, allowed_s, took_s, self._was_full)))
        if now < self._probe_at:
            return
        if self._probe_at and self._held_back:
            self._before, self.value = self.value, 1.0
        elif self._probe_at:
            self.usual_s = worked_s
        self._probe_at, self._held_back = now + PROBE_EVERY_S, False
