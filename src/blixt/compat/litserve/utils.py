"""Helpers that LitServe's users call: logging, tests, breakpoints."""

import asyncio
import base64
import importlib.util
import logging
import os
import pdb
import pickle
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .status import LitAPIStatus, LoopResponseType, WorkerSetupStatus

if TYPE_CHECKING:
    from .server import LitServer

__all__ = [
    "ForkedPdb",
    "LitAPIStatus",
    "LoopResponseType",
    "ResponseBufferItem",
    "WorkerSetupStatus",
    "add_log_handler",
    "add_ssl_context_from_env",
    "azip",
    "call_after_stream",
    "configure_logging",
    "dump_exception",
    "generate_random_zmq_address",
    "is_package_installed",
    "set_log_level",
    "set_trace",
    "set_trace_if_debug",
    "wrap_litserve_start",
]
FORMAT = "%(asctime)s - %(processName)s[%(process)d] - %(name)s - %(levelname)s - %(message)s"


@dataclass
class ResponseBufferItem:
    """Where the endpoint of a spec waits for a request's answer.

    Attributes:
        event: Set when something has come.
        response_queue: Takes `(piece, status)` of a stream; None: the answer comes whole.
        worker_id: Not told here.
        response: `(answer, status)`, if it comes whole.
    """

    event: asyncio.Event
    response_queue: "deque[Any] | None" = None
    worker_id: int | None = None
    response: Any = None


@contextmanager
def wrap_litserve_start(
    server: "LitServer", worker_monitor: bool = False
) -> "Generator[LitServer, None, None]":
    """For tests: `server.app` serves inside this block, through a test client with lifespan.

    Workers are always watched here, so `worker_monitor` changes nothing.
    """
    yield server


def configure_logging(
    level: int | str = logging.INFO, format: str = FORMAT, stream: TextIO = sys.stdout, use_rich: bool = False
) -> None:
    """Send the library's log to a stream, or through rich."""
    log = logging.getLogger("litserve")
    log.handlers.clear()
    log.setLevel(level.upper() if isinstance(level, str) else level)
    log.addHandler(_handler(format, stream, use_rich))
    log.propagate = False


def _handler(format: str, stream: TextIO, use_rich: bool) -> logging.Handler:
    if use_rich:
        with suppress(ImportError):
            from rich.logging import RichHandler

            return RichHandler(rich_tracebacks=True)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(format))
    return handler


async def azip(*streams: AsyncIterable[Any]) -> AsyncIterator[tuple[Any, ...]]:
    """Async iterables in step, until the shortest ends; all are asked at once."""
    iterators = [aiter(stream) for stream in streams]
    while True:
        items = await asyncio.gather(*(anext(one) for one in iterators), return_exceptions=True)
        for item in items:
            if isinstance(item, StopAsyncIteration):
                return
            if isinstance(item, BaseException):
                raise item
        yield tuple(items)


async def call_after_stream(
    streamer: AsyncIterable[Any], callback: Callable[..., Any], *args: Any, **kwargs: Any
) -> AsyncIterator[Any]:
    """A stream, and a call when it has ended, in whatever way; what it raises is logged and ends it."""
    try:
        async for item in streamer:
            yield item
    except Exception:
        logging.getLogger(__name__).exception("a stream failed")
    finally:
        callback(*args, **kwargs)


def dump_exception(exception: Exception) -> bytes:
    """An exception as bytes that `pickle` reads."""
    return pickle.dumps(exception)


def set_log_level(level: int | str) -> None:
    """Set the level of the library's log."""
    logging.getLogger("litserve").setLevel(level)


def add_log_handler(handler: logging.Handler) -> None:
    """Also send the library's log to a handler."""
    logging.getLogger("litserve").addHandler(handler)


def is_package_installed(package_name: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package_name) is not None


def generate_random_zmq_address(temp_dir: str = "/tmp") -> str:
    """The name of a socket file that nobody else has, as ZeroMQ writes it."""
    return f"ipc://{temp_dir}/zmq-{uuid.uuid4().hex}.ipc"


class ForkedPdb(pdb.Pdb):
    """A debugger for worker processes, whose standard input is closed: it reads from the terminal."""

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        """Talk to the terminal."""
        own = sys.stdin
        try:
            with open("/dev/stdin") as sys.stdin:
                super().interaction(*args, **kwargs)
        finally:
            sys.stdin = own


def set_trace() -> None:
    """Stop here, also in a worker."""
    ForkedPdb().set_trace(sys._getframe().f_back)  # pyright: ignore[reportPrivateUsage]


def set_trace_if_debug(debug_env_var: str = "LITSERVE_DEBUG", debug_env_var_value: str = "1") -> None:
    """Stop here if the environment says so."""
    if os.environ.get(debug_env_var) == debug_env_var_value:
        set_trace()


def add_ssl_context_from_env(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Certificate and key from base64 in `LIGHTNING_CERT_PEM` and `LIGHTNING_KEY_FILE`, as files.

    Args:
        kwargs: Arguments of `LitServer.run`; a certificate named there wins.

    Returns:
        `ssl_certfile` and `ssl_keyfile`, or nothing; the files are the caller's to remove.
    """
    if "ssl_certfile" in kwargs and "ssl_keyfile" in kwargs:
        return kwargs
    texts = [os.environ.get(name) for name in ("LIGHTNING_CERT_PEM", "LIGHTNING_KEY_FILE")]
    if not all(texts):
        return {}
    return {
        name: _written(base64.b64decode(text or ""), suffix)
        for name, text, suffix in zip(("ssl_certfile", "ssl_keyfile"), texts, (".pem", ".key"), strict=True)
    }


@contextmanager
def ssl_files_from_env(kwargs: dict[str, Any]) -> "Generator[dict[str, Any], None, None]":
    """As `add_ssl_context_from_env`, but files that were made, a private key among them, go afterwards."""
    found = add_ssl_context_from_env(kwargs)
    try:
        yield found
    finally:
        if found is not kwargs:
            for path in found.values():
                path.unlink(missing_ok=True)


def _written(content: bytes, suffix: str) -> Path:
    with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as file:
        file.write(content)
    return Path(file.name)
