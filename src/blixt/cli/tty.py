"""This terminal as a window on a terminal in a Studio."""

import os
import select
import shutil
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.client import Studio, Terminal


def attach(studio: "Studio", session: str | None) -> int:
    """Connect stdin and stdout to a shell in the Studio until it ends.

    Returns:
        The shell's exit code; 1 when the connection ended without one.
    """
    cols, rows = shutil.get_terminal_size()
    with studio.terminal(cols=cols, rows=rows, session=session) as terminal, _raw_mode(), _resizing(terminal):
        ended_read, ended_write = os.pipe()
        typist = threading.Thread(target=_type, args=(terminal, ended_read), name="terminal-input")
        typist.start()
        try:
            for shown in terminal:
                sys.stdout.buffer.write(shown)
                sys.stdout.buffer.flush()
        finally:
            os.close(ended_write)  # wakes the typist, wherever it waits
            typist.join()
            os.close(ended_read)
    return 1 if terminal.exit_code is None else terminal.exit_code


def _type(terminal: "Terminal", ended: int) -> None:
    """Send what is typed until the shell ends; the end of a pipe is sent as Ctrl-D."""
    stdin = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([stdin, ended], [], [])
        if ended in ready:
            return
        keys = os.read(stdin, 65536)
        try:
            terminal.send(keys or b"\x04")
        except Exception:  # the connection is gone: the reading side says so
            return
        if not keys:
            return


@contextmanager
def _raw_mode() -> Generator[None, None, None]:
    """Every key goes through, Ctrl-C too; the terminal is as before afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        tty.setraw(stdin, termios.TCSADRAIN)  # what was typed ahead is kept
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


@contextmanager
def _resizing(terminal: "Terminal") -> Generator[None, None, None]:
    """Tell the Studio when this window changes its size."""
    import signal

    def resized(*_: object) -> None:
        size = shutil.get_terminal_size()
        terminal.resize(size.columns, size.lines)

    before = signal.signal(signal.SIGWINCH, resized)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
