"""Serving from this process: one front, which is also the workers' supervisor."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from blixt.serve.callbacks import Events
from blixt.serve.errors import ConfigError
from blixt.serve.page import keep_large_buffers
from blixt.serve.pools import renew
from blixt.serve.service import Service
from blixt.serve.slab import Slab

if TYPE_CHECKING:
    from blixt.serve.listen import Listening
    from blixt.serve.server import Server


YOUNG_OBJECTS = 20_000


def run_loop(main: Coroutine[Any, Any, None], kind: str = "auto") -> None:
    """Run to the end on uvloop, or on asyncio's own loop where there is none or `kind` is "asyncio"."""
    new_event_loop = asyncio.new_event_loop
    if kind != "asyncio":
        try:
            from uvloop import new_event_loop
        except ImportError:
            if kind != "auto":
                main.close()
                raise ConfigError("loop='uvloop' cannot be had: pip install uvloop.") from None
    keep_large_buffers()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


async def serve(server: "Server", sock: socket.socket, listening: "Listening") -> None:
    """Serve until a signal, then drain.

    The workers are started before the app is made: they import while this process imports the web framework.

    Raises:
        SetupFailed: Set-up failed again and again.
    """
    service = server.service

    def renew_workers() -> None:
        renew(running.pool for running in service.running)

    asked = signals(renew_workers)
    events = Events(service.served.callbacks)
    service.on_stop_asked = lambda: asked.put_nowait(signal.SIGTERM)
    service.start(Slab.create() if listening.hot_lane else None)
    assert service.fatal is not None
    await asyncio.sleep(0)  # let the pools spawn their workers, which then start while this process imports
    try:
        from blixt.serve.http.uvicorn_server import UvicornServer

        front = UvicornServer(server.make_front_app(service), listening, lambda: None)
        serving = asyncio.create_task(front.serve(sockets=[sock]))
        await front.until_started(serving)
        events.fire("on_server_start", server)
        loop = asyncio.get_running_loop()
        announce = loop.create_task(_announce(service))
        stop = loop.create_task(asked.get())
        await asyncio.wait({serving, stop, service.fatal}, return_when=asyncio.FIRST_COMPLETED)
        announce.cancel()
        if not service.fatal.done():
            say("finishing admitted requests; Ctrl-C again stops at once")
            again = loop.create_task(asked.get())
            await first(loop.create_task(service.drain()), again)
            service.hurried = not again.cancelled()
            service.fail_all()
        front.should_exit = True
        await serving
    finally:
        await service.stop()
        events.fire("on_server_end", server)
    if service.fatal.done():
        raise service.fatal.result()


def signals(on_renew: Callable[[], None]) -> "asyncio.Queue[int]":
    """The signals that ask the server to stop, as they come.

    SIGHUP is one of them if there is a terminal, which then was closed. To a server without one it says, as
    to other daemons, that something has changed.

    Args:
        on_renew: Called when the workers are to be replaced.
    """
    asked: asyncio.Queue[int] = asyncio.Queue(maxsize=16)
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            asked.put_nowait(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)

    def on_hangup() -> None:
        if _has_terminal():
            on_signal(signal.SIGTERM)
        else:
            say("replacing all workers, one after the other")
            on_renew()

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    return asked


def _has_terminal() -> bool:
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


async def first(*tasks: "asyncio.Task[Any]") -> None:
    """Wait for one of the tasks and end the others."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def spare_collector() -> None:
    """What has been made so far stays for good: keep the garbage collector from walking over it again.

    Requests leave no cycles behind, but hundreds of them at a time are many young objects, over which the
    collector would walk thousands of times a second with its usual threshold.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def say(text: str, file: TextIO | None = None) -> None:
    """A line for the person who started the server."""
    print(f"blixt serve: {text}", file=file or sys.stdout, flush=True)


async def _announce(service: Service) -> None:
    await service.until_ready()
    spare_collector()
    say(ready_text(service.served.devices))


def ready_text(devices: Sequence[Sequence[str]]) -> str:
    """What is said once requests are answered."""
    counts = sorted({len(workers) for workers in devices})
    many = "-".join(str(count) for count in (counts[0], counts[-1])[: len(counts)])
    names = sorted({device for workers in devices for device in workers})
    return f"ready, {many} worker(s) for each API on {', '.join(names)}"
