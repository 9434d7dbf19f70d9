"""`API.log` from the workers to your loggers, in a process of their own so that they slow nobody down."""

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any

from blixt.serve.errors import ConfigError

MAX_WAITING = 10_000
AUTH = b"blixt-serve-log"  # the socket's folder is its owner's alone; this only keeps strangers' bytes out
logger = logging.getLogger("blixt.serve")


class Logger(ABC):
    """Subclass it, and give instances to `Server(loggers=...)`; they are pickled into the loggers' process.

    Example:
        >>> class Printer(Logger):
        ...     def process(self, key, value):
        ...         print(key, value)
        >>> Printer().process("loss", 0.5)
        loss 0.5
    """

    mounts: Mapping[str, Any] = {}

    @abstractmethod
    def process(self, key: str, value: Any) -> None:
        """Take one value that a worker gave to `API.log`. What it raises is logged and harms nobody."""

    def mount(self, path: str, app: Any) -> None:
        """Serve an ASGI app below a path of the server, for example a metrics page.

        The app runs in the front, this logger's `process` elsewhere: they share only what lies outside.
        """
        self.mounts = {**self.mounts, path: app}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "mounts"}


def mounts_of(loggers: Sequence[Logger]) -> dict[str, Any]:
    """The ASGI apps that loggers want served, by path."""
    return {path: app for one in loggers for path, app in one.mounts.items()}


class LogProcess:
    """The loggers' process, from start to `close`.

    Args:
        loggers: At least one.

    Raises:
        ConfigError: One of them is no `Logger`.
    """

    def __init__(self, loggers: Sequence[Any]) -> None:
        for one in loggers:
            if not isinstance(one, Logger):
                raise ConfigError(f"loggers: {one!r} is no Logger; subclass blixt.serve.Logger.")
        self._folder = tempfile.mkdtemp(prefix="blixt-log-")
        self.address = os.path.join(self._folder, "socket")
        self._lifeline, lifeline_end = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (list(loggers), self.address, lifeline_end)
        self._process = context.Process(target=_main, args=arguments, name="blixt-loggers", daemon=True)
        self._process.start()
        lifeline_end.close()

    def close(self, patience_s: float = 5.0) -> None:
        """Let the loggers take what was sent, then end; call once the workers have gone."""
        self._lifeline.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.address)
        os.rmdir(self._folder)


class LogSender:
    """A worker's way to the loggers: a bounded queue and a thread. When it is full, values are dropped.

    Args:
        address: `LogProcess.address`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        threading.Thread(target=self._run, daemon=True, name="log").start()

    def send(self, key: str, value: Any) -> None:
        """Hand a value over; never blocks."""
        try:
            self._queue.put_nowait((key, value))
        except queue.Full:
            self._dropped += 1
            if self._dropped in (1, 100, 10_000):
                logger.warning("the loggers are behind: %d values of API.log were dropped", self._dropped)

    def _run(self) -> None:
        connection = _connect(self._address)
        while connection is not None:
            item = self._queue.get()
            try:
                connection.send(item)
            except (BrokenPipeError, ConnectionError):
                logger.warning("the loggers' process has gone; API.log goes nowhere now")
                return
            except Exception as error:  # pickling fails in many ways
                logger.warning("API.log(%r): the value cannot be sent: %s", item[0], error)


def _connect(address: str, patience_s: float = 30.0) -> Connection | None:
    import time

    deadline = time.monotonic() + patience_s
    while True:
        try:
            return Client(address, "AF_UNIX", AUTH)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                logger.warning("the loggers' process does not answer; API.log goes nowhere")
                return None
            time.sleep(0.05)  # it is still importing


def _main(loggers: list[Logger], address: str, lifeline: Connection) -> None:
    """Entry of the loggers' process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    arrivals: list[Connection] = []
    with Listener(address, "AF_UNIX", backlog=128, authkey=AUTH) as listener:
        bell, ring = multiprocessing.Pipe(duplex=False)
        threading.Thread(target=_accept, args=(listener, arrivals, ring), daemon=True).start()
        open_ends: list[Connection] = [bell, lifeline]
        ending = False
        while True:
            ready = wait(open_ends, 0.2 if ending else None)
            if ending and not ready:
                return
            for end in ready:
                if end is lifeline:
                    open_ends.remove(lifeline)
                    ending = True
                elif end is bell:
                    bell.recv()
                    open_ends.append(arrivals.pop(0))
                elif not _take(loggers, end):  # pyright: ignore[reportArgumentType]  # only Connections are waited for
                    open_ends.remove(end)  # pyright: ignore[reportArgumentType]


def _accept(listener: Listener, arrivals: list[Connection], ring: Connection) -> None:
    while True:
        try:
            arrivals.append(listener.accept())
        except (OSError, EOFError, multiprocessing.AuthenticationError):
            if not os.path.exists(str(listener.address)):
                return
            continue
        ring.send(None)


def _take(loggers: list[Logger], connection: Connection) -> bool:
    """Hand one value to every logger; False once the worker has gone."""
    try:
        key, value = connection.recv()
    except (EOFError, ConnectionError):
        return False
    except Exception:
        logger.exception("a value of API.log cannot be read")
        return True
    for one in loggers:
        try:
            one.process(key, value)
        except Exception:
            logger.exception("%s.process failed on %r", type(one).__name__, key)
    return True
