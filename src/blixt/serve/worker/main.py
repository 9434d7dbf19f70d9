"""A worker process: own a device, set the model up once, serve until the front goes."""

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blixt.serve.api import API
from blixt.serve.errors import ConfigError
from blixt.serve.page import Page, keep_large_buffers
from blixt.serve.plan import Plan, make_plan
from blixt.serve.wire import Kind
from blixt.serve.worker.channel import Channel, FrontGone
from blixt.serve.worker.loops import run

if TYPE_CHECKING:
    from blixt.serve.slab import Slab

INHERITED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class WorkerSpec:
    """All a worker is told; pickled once, by `multiprocessing`'s spawn.

    Attributes:
        door: Where further fronts come in, if there are any.
        slab: The front's memory for large bodies.
        callbacks: The server's.
        log_address: Where `API.log` sends its values, if anybody listens.
        folder: Where large values lie on their way to another worker.
        stage: See `Plan`: "first" and "middle" stages of a pipeline pack their answers, a "middle" or "last"
            one gets packed values. Empty outside pipelines.
    """

    api: API
    device: str
    index: int
    sock: socket.socket
    lifeline: socket.socket
    page: Page
    door: socket.socket | None = None
    slab: "Slab | None" = None
    callbacks: Sequence[Any] = ()
    log_address: str | None = None
    folder: str | None = None
    stage: str = ""


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
        channel = Channel(spec.sock, spec.page, spec.slab, spec.door)
        try:
            plan = _set_up(spec)
        except Exception as error:
            channel.answer(0, Kind.FAILED, _report(spec, error).encode())
            channel.flush()
            sys.exit(1)
        channel.ready()
        keep_large_buffers()
        gc.freeze()  # the model stays: keep the garbage collector from walking over it again and again
        run(plan, channel)


def _set_up(spec: WorkerSpec) -> Plan:
    api = spec.api
    plan = make_plan(api, spec.callbacks, stage=spec.stage, folder=spec.folder)
    if spec.log_address is not None:
        from blixt.serve.loggers import LogSender

        api._send_log = LogSender(spec.log_address).send  # pyright: ignore[reportPrivateUsage]
    api.device = spec.device
    plan.events.fire("on_before_setup", api)
    api.setup(spec.device)
    plan.events.fire("on_after_setup", api)
    examples = list(api.examples())
    if examples:
        _warm_up(plan, examples)
    return plan


def _warm_up(plan: Plan, examples: list[Any]) -> None:
    """Answer the examples before anybody asks; those of a pipeline's later stages are values, not bodies."""
    from blixt.serve.handoff import discard, pack
    from blixt.serve.rehearse import rehearse

    kind = Kind.REQUEST
    if plan.stage in ("middle", "last"):
        examples, kind = [pack(example) for example in examples], Kind.PASS
    for answered in rehearse(plan, examples, kind):
        if answered.kind == Kind.PACKED:
            discard(answered.payload)


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
