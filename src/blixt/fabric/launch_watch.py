"""Watch over ranks: find the one that failed first, stop the rest, leave nobody behind."""

import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blixt.fabric.launch_place import Place

STOP_GRACE_S = 10.0
_SECOND_LOOK_S = 0.5
LEFT_ON_REQUEST = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Failure:
    """A rank that ended as it should not.

    Attributes:
        rank: Among all.
        pid: Of its process.
        code: Its exit code, or minus the signal that killed it.
    """

    rank: int
    pid: int
    code: int

    def __str__(self) -> str:
        how = f"exited with code {self.code}" if self.code > 0 else f"was killed by {_name(-self.code)}"
        return f"rank {self.rank} (process {self.pid}) {how}"

    @property
    def shell_code(self) -> int:
        """As a shell would give it."""
        return self.code if self.code >= 0 else 128 - self.code


class Ranks(ABC):
    """The running ranks of one launcher, numbered from 0 on its machine."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._told_to_leave = False

    @abstractmethod
    def pid(self, index: int) -> int:
        """Of the process."""

    @abstractmethod
    def code(self, index: int) -> int | None:
        """Exit code, minus the signal, or None while it runs."""

    @abstractmethod
    def next_ended(self, timeout_s: float | None) -> int | None:
        """Wait for one that nobody has been told of; None when the time is over."""

    @abstractmethod
    def send(self, index: int, number: int) -> None:
        """Send a signal, if it still runs."""

    @abstractmethod
    def wait(self, index: int, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""

    def watch(self) -> Failure | int:
        """Wait for all; returns the failure that came first, or the highest exit code if there is none.

        A rank that leaves because of SIGTERM (exit code 143) has not failed.
        """
        codes = [0]
        for _ in range(self.place.processes):
            index = self.next_ended(None)
            assert index is not None
            failure = self._failure(index)
            if failure is not None:
                return self._cause_of(failure)
            codes.append(LEFT_ON_REQUEST if self.code(index) else 0)
        return max(codes)

    def stop(self) -> None:
        """End whoever still runs: ask, wait a little, kill."""
        for index in range(self.place.processes):
            self.send(index, signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        for index in range(self.place.processes):
            if not self.wait(index, max(0.0, deadline - time.monotonic())):
                self.send(index, signal.SIGKILL)
                self.wait(index, STOP_GRACE_S)

    @contextmanager
    def forwarding_signals(self) -> Generator[None]:
        """While inside, SIGTERM and SIGUSR1 to this process go to every rank."""
        previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                previous[number] = signal.signal(number, self._forward)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _forward(self, number: int, _frame: object) -> None:
        self._told_to_leave = True
        for index in range(self.place.processes):
            self.send(index, number)

    def _failure(self, index: int) -> Failure | None:
        code = self.code(index)
        if not code or code == LEFT_ON_REQUEST or (self._told_to_leave and code == -signal.SIGTERM):
            return None
        rank = self.place.node_rank * self.place.processes + index
        return Failure(rank, self.pid(index), code)

    def _cause_of(self, first: Failure) -> Failure:
        """A rank that was killed, if there is one: the others only noticed that they had lost it."""
        deadline = time.monotonic() + _SECOND_LOOK_S
        while first.code > 0:
            index = self.next_ended(max(0.0, deadline - time.monotonic()))
            if index is None:
                return first
            other = self._failure(index)
            if other is not None and other.code < 0:
                return other
        return first


def say_who_failed(failure: Failure, accused: str | None) -> None:
    """Tell people, and what the ranks found out about each other."""
    lines = [f"blixt: {failure}; the other ranks were stopped. Its own message is above."]
    if accused:
        lines.append(f"blixt: {accused}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
