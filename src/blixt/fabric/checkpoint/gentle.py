"""Work that gets out of training's way."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

_NICENESS = 5
"""A third of the processor time that a thread of normal priority gets beside it: with much less, a busy
machine would still be writing when the next checkpoint is due."""


def gently(action: Callable[[], None]) -> None:
    """Run `action` in a thread of low priority, and return when it is done; raises what it raises.

    Where priorities belong to processes and not to threads, it runs as everything else does. A thread of its
    own, because only an administrator can raise a priority again.
    """
    if not sys.platform.startswith("linux"):
        return action()
    failure: list[BaseException] = []

    def run() -> None:
        with suppress(OSError):  # a sandbox may not allow it
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)
        try:
            action()
        except BaseException as error:  # handed to whoever waits
            failure.append(error)

    thread = threading.Thread(target=run, name="blixt-checkpoint-write", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return None
