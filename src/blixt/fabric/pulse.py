"""Find out which rank died or hangs, so that the others can say so.

Every rank writes once a second into the store where the ranks met: a beat, and in how many collectives of
each of its groups it has taken part. Nothing of it happens in a training step. When a rank fails because it
waited in vain, the beats tell who is to blame: whose beat has stopped is dead, and who has taken part in
fewer collectives of a group never came to the one the others of that group wait in.
"""

import atexit
import os
import sys
import threading
import time
import traceback
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch.distributed as dist

from blixt.fabric.cluster.base import World
from blixt.fabric.pulse_beats import Beat, find_behind, taken_part

_PERIOD_S = 1.0
_DEAD_AFTER_S = 2.5
_LOOK_S = 0.1
_STORE_S = 2.0
_ACCUSED = "blixt/accused"
_WORDS = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "tcpstore", "broken pipe")

_current: "Pulse | None" = None


class Pulse:
    """This rank's beat.

    Args:
        rank: Of this process.
        world_size: Number of processes.
        store: A connection of its own to the store where they met.
    """

    def __init__(self, rank: int, world_size: int, store: Any) -> None:
        self.rank, self.world_size = rank, world_size
        self._store = store
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="blixt-pulse", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join(_STORE_S)

    def explain(self, error: BaseException) -> str:
        """Say which other rank is to blame for `error`, if one is, and let the others and the launcher know.

        The beat goes on meanwhile, because the other ranks may ask the same question.
        """
        try:
            if not _about_others(error):
                name = type(error).__name__
                _accuse_once(self._store, f"rank {self.rank} failed with {name}: {_short(error)}")
                return ""
            known = _accused(self._store)
            return known or _accuse_once(self._store, find_guilty(self._store, self.world_size, self.rank))
        except (dist.DistError, RuntimeError):
            return "the store where the ranks met is gone: the launcher or the machine of rank 0 has ended"

    def _beat(self) -> None:
        count = 0
        try:
            while not self._over.wait(_PERIOD_S if count else 0):
                count += 1
                self._store.set(f"blixt/pulse/{self.rank}", Beat(count, taken_part()).text())
                if f"rank {self.rank} hangs" in _accused(self._store):
                    _show_main_thread(self.rank)
                    return
        except (dist.DistError, RuntimeError):
            return  # the store is gone: whoever needs it will say so


def start_pulse(world: World, store: Any) -> None:
    """Let this rank beat for as long as its process lives, and explain an error that ends the process."""
    global _current
    if _current is not None or store is None:
        return
    _current = Pulse(world.rank, world.world_size, store)
    _current.start()
    # A thread that comes back from the store while Python shuts down ends the process with SIGABRT.
    atexit.register(stop_pulse)
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        usual(kind, error, trace)
        said = explain(error)
        if said and not issubclass(kind, KeyboardInterrupt):
            print(f"blixt: rank {world.rank} stops: {said}.", file=sys.stderr, flush=True)

    sys.excepthook = hook


def stop_pulse() -> None:
    """End this rank's beat, before its connection to the store is closed."""
    global _current
    if _current is not None:
        _current.stop()
        _current = None


def explain(error: BaseException) -> str:
    """Which rank is to blame for `error`, as far as this process can find out; "" when it trains alone."""
    return _current.explain(error) if _current is not None else ""


def accuse(store: Any, failure: str) -> str | None:
    """For a launcher that lost a rank: tell the others, unless they know more about it already.

    Args:
        store: Where the ranks met; None on machines that do not hold it.
        failure: What the launcher saw.

    Returns:
        What the ranks had said before; None if nothing.
    """
    if store is None:
        return None
    try:
        said = _accuse_once(store, failure)
    except (dist.DistError, RuntimeError):
        return None
    return said if said != failure else None


def find_guilty(store: Any, world_size: int, asking: int) -> str:
    """Compare the beats of the other ranks for a moment; for two, if some seem to have none."""
    before = _beats(store, world_size)
    silent = [rank for rank in range(world_size) if rank != asking]
    for _ in range(2):  # on a busy machine a living thread may wait that long for its turn
        deadline = time.monotonic() + _DEAD_AFTER_S
        while time.monotonic() < deadline:
            if known := _accused(store):
                return known
            time.sleep(_LOOK_S)
        after = _beats(store, world_size)
        silent = [rank for rank in silent if _count(after, rank) == _count(before, rank)]
        if not silent:
            break
    if silent:
        return f"rank {_join(silent)} died: no sign of life for {2 * _DEAD_AFTER_S:g} s"
    after = _beats(store, world_size)
    mine = taken_part()
    behind = find_behind({**after, asking: Beat(0, mine)}, asking, world_size)
    if behind is not None:
        return str(behind)
    most = max(mine.values(), default=0)
    return f"all ranks are alive and took part in as many collective operations as this one ({most})"


def _beats(store: Any, world_size: int) -> dict[int, Beat]:
    found: dict[int, Beat] = {}
    for rank in range(world_size):
        key = f"blixt/pulse/{rank}"
        if store.check([key]):
            found[rank] = Beat.of(store.get(key))
    return found


def _count(beats: dict[int, Beat], rank: int) -> int:
    return beats[rank].count if rank in beats else 0


def _accused(store: Any) -> str:
    return store.get(_ACCUSED).decode() if store.check([_ACCUSED]) else ""


def _accuse_once(store: Any, text: str) -> str:
    """The first accusation counts: what comes later comes of it."""
    store.set_timeout(timedelta(seconds=_STORE_S))
    return store.compare_set(_ACCUSED, "", text).decode()


def _about_others(error: BaseException) -> bool:
    """Whether an error may come of other ranks, by its type or its words."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(word in text for word in _WORDS)


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _join(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))


def _show_main_thread(rank: int) -> None:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # pyright: ignore[reportPrivateUsage]
    where = "".join(traceback.format_stack(frame)) if frame is not None else "nobody knows where\n"
    text = f"blixt: the other ranks wait for rank {rank} (process {os.getpid()}), which is here:\n{where}"
    print(text, file=sys.stderr, flush=True)
