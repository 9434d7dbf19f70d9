"""Signals ask, they do nothing: the loop acts on them where it can."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from blixt.fabric.cluster import ClusterEnvironment


class SignalHandlers:
    """While inside, SIGTERM and the cluster's requeue signal ask for a stop instead of killing.

    The previous handlers come back afterwards. Outside of the main thread, where Python allows no handlers,
    nothing happens. A handler of the user's own for the requeue signal stays. In a process that is forked
    meanwhile, such as a loader's worker, SIGTERM kills as ever.

    Args:
        ask: Called with the signal's name, inside the handler: it may set a flag and no more.
        environment: Whose `requeue_signal` counts.
    """

    def __init__(self, ask: Callable[[str], None], environment: ClusterEnvironment | None = None) -> None:
        self._ask = ask
        requeue = environment.requeue_signal if environment is not None else None
        self._numbers = [signal.SIGTERM, *([requeue] if requeue is not None else [])]
        self._previous: dict[int, Any] = {}
        self._process = 0

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._process = os.getpid()
        for number in self._numbers:
            own = signal.getsignal(number)
            if number is signal.SIGTERM or own in (signal.SIG_DFL, signal.SIG_IGN):
                self._previous[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            self._ask(signal.Signals(number).name)
        elif number == signal.SIGTERM:  # nobody looks at the flag of a copy, and its parent waits for its end
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
