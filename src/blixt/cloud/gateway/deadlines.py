"""Deadlines of one connection, checked by the gateway's sweep instead of a timer each."""

from collections.abc import Callable
from enum import IntEnum

from blixt.cloud.gateway.errors import ClientGone, RequestTimeout, UpstreamTimeout
from blixt.cloud.gateway.limits import Limits

_NEVER = float("inf")


class Phase(IntEnum):
    """What a connection waits for."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    RESPONSE = 3
    STALL = 4
    LINGER = 5
    HALF_CLOSED = 6


def durations(limits: Limits) -> tuple[float, ...]:
    """How long each phase may last, by its number."""
    return (
        limits.idle_s,
        limits.head_s,
        limits.body_idle_s,
        limits.response_s,
        limits.stall_s,
        limits.linger_s,
        limits.half_closed_s,
    )


def failure(phase: Phase) -> Exception:
    """What a phase that lasted too long means."""
    if phase is Phase.HEAD:
        return RequestTimeout("The request's headers did not arrive in time.")
    if phase is Phase.BODY:
        return RequestTimeout("The request's body stopped arriving.")
    if phase is Phase.RESPONSE:
        return UpstreamTimeout("The workload did not begin its answer in time.")
    return ClientGone(f"waited too long in phase {phase.name}")


class Deadlines:
    """The phases now open and when each ends."""

    __slots__ = ("_clock", "_durations", "_ends")

    def __init__(self, durations: tuple[float, ...], clock: Callable[[], float]) -> None:
        self._durations = durations
        self._clock = clock
        self._ends = [_NEVER] * len(durations)

    def open(self, phase: Phase) -> None:
        """Start (or start again) a phase."""
        self._ends[phase] = self._clock() + self._durations[phase]

    def shut(self, phase: Phase) -> None:
        """The phase is over."""
        self._ends[phase] = _NEVER

    def clear(self) -> None:
        """No phase is open."""
        self._ends = [_NEVER] * len(self._ends)

    def overdue(self, now: float) -> Phase | None:
        """A phase that lasted too long."""
        earliest = min(self._ends)
        return Phase(self._ends.index(earliest)) if earliest <= now else None
