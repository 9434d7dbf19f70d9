"""A worker process: own a device, set the model up once, serve until the front goes."""

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass

from blixt.serve.api import API
from blixt.serve.errors import ConfigError
from blixt.serve.page import Page
from blixt.serve.plan import make_plan
from blixt.serve.wire import Kind
from blixt.serve.worker.channel import Channel, FrontGone
from blixt.serve.worker.loops import run

INHERITED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class WorkerSpec:
    """All a worker is told; pickled once, by `multiprocessing`'s spawn."""

    api: API
    device: str
    index: int
    sock: socket.socket
    lifeline: socket.socket
    page: Page


def main(spec: WorkerSpec) -> None:
    """Entry point of the process. Exits 0 when the front closes the socket."""
    _ignore_terminal_signals()
    threading.Thread(target=_die_with_front, args=(spec.lifeline,), daemon=True, name="lifeline").start()
    faulthandler.enable()
    logging.basicConfig(
        format=f"%(asctime)s worker {spec.index} %(levelname)s %(message)s", level=logging.INFO
    )
    os.environ["BLIXT_SERVE_WORKER"] = str(spec.index)
    with contextlib.suppress(FrontGone):
        channel = Channel(spec.sock, spec.page)
        try:
            plan = make_plan(spec.api)
            spec.api.device = spec.device
            spec.api.setup(spec.device)
        except Exception as error:
            channel.answer(0, Kind.FAILED, _report(spec, error).encode())
            channel.flush()
            sys.exit(1)
        channel.answer(0, Kind.READY)
        channel.flush()
        run(plan, channel)


def _report(spec: WorkerSpec, error: Exception) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    lines = "".join(traceback.format_exception(error)).rstrip()
    return f"{type(spec.api).__name__}.setup({spec.device!r}) failed.\n{lines}"


def _ignore_terminal_signals() -> None:
    """Ctrl-C reaches the whole process group; stopping is the front's decision alone.

    The front starts us with these signals blocked, so none can hit before they are ignored.
    """
    for number in INHERITED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INHERITED_SIGNALS)


def _die_with_front(lifeline: socket.socket) -> None:
    """End at once when the front is gone, even in the middle of a `setup` or `predict`."""
    with contextlib.suppress(OSError):
        while lifeline.recv(1):
            pass
    os._exit(0)
