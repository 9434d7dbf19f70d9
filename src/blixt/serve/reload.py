"""Development: serve a file, and begin anew whenever the code beside it changes.

This process keeps the listening socket, so the port stays and clients that connect during a restart wait; the
server is a child that is ended and started again.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from blixt.serve.listen import address_of, listen

LOOK_S = 0.3
PATIENCE_S = 5.0
MAX_FILES = 5000
Stamps = Mapping[Path, float]


def run_with_reload(
    path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    uds: str | None = None,
    on_listening: Callable[[str], None] | None = None,
    **options: Any,
) -> None:
    """Serve a file until SIGTERM or Ctrl-C; restart when a Python file in its folder or below changes.

    A version that fails (a syntax error, say) is reported, and the next change tried.

    Args:
        path: As `run_file`.
        host: Address to listen on.
        port: Port; 0 takes a free one, which then stays.
        uds: Path of a unix socket to listen on instead.
        on_listening: Called once with the address.
        **options: As `run_file`.

    Raises:
        PortInUse: Somebody else listens there.
    """
    path = Path(path).resolve()
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.closing(listen(host, port, uds)) as sock, contextlib.suppress(KeyboardInterrupt):
        if on_listening is not None:
            on_listening(address_of(sock))
        while True:
            seen = stamps(path.parent)
            child = _Child(path, sock, options)
            try:
                changed = _until_change(path.parent, seen, child)
            finally:
                child.end()
            print(f"blixt serve: {changed} changed; starting again", flush=True)


def stamps(folder: Path) -> Stamps:
    """When each Python file below a folder was last written; hidden folders and environments are left out."""
    found: dict[Path, float] = {}
    for file in _python_files(folder):
        with contextlib.suppress(FileNotFoundError):
            found[file] = file.stat().st_mtime
        if len(found) >= MAX_FILES:
            break
    return found


def changed_file(before: Stamps, after: Stamps) -> Path | None:
    """A file that is new, gone or written to.

    Example:
        >>> changed_file({Path("a.py"): 1.0}, {Path("a.py"): 2.0})
        PosixPath('a.py')
    """
    for file in before.keys() | after.keys():
        if before.get(file) != after.get(file):
            return file
    return None


def _python_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__pycache__", "node_modules"))
            and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
        ]
        yield from (Path(parent, name) for name in files if name.endswith(".py"))


def _until_change(folder: Path, before: Stamps, child: "_Child") -> str:
    told = False
    while True:
        time.sleep(LOOK_S)
        changed = changed_file(before, stamps(folder))
        if changed is not None:
            return str(changed.relative_to(folder))
        if child.has_ended and not told:
            told = True
            print("blixt serve: the server has ended; waiting for a change", flush=True)


class _Child:
    """The server's process, which ends with this one whatever happens."""

    def __init__(self, path: Path, sock: socket.socket, options: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._lifeline, end = context.Pipe()
        arguments = (path, sock, dict(options), end)
        self._process: SpawnProcess = context.Process(target=_serve, args=arguments, name="blixt-serve")
        self._process.start()
        end.close()

    @property
    def has_ended(self) -> bool:
        return self._process.exitcode is not None

    def end(self) -> None:
        """SIGTERM lets it finish requests; a second one, after a while, lets it not."""
        for stop in (self._process.terminate, self._process.terminate, self._process.kill):
            stop()
            self._process.join(PATIENCE_S)
            if self.has_ended:
                break
        self._lifeline.close()


def _serve(path: Path, sock: socket.socket, options: dict[str, Any], lifeline: Connection) -> None:
    """The child: as `blixt serve`, on a socket it was given."""
    from blixt.serve.errors import ServeError
    from blixt.serve.files import run_file

    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    try:
        run_file(path, sock=sock, **options)
    except ServeError as error:
        print(f"blixt serve: error: {error}", flush=True)
        raise SystemExit(error.exit_code) from None


def _end_with_parent(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
