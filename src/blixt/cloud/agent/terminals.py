"""Terminals: shells on ptys that outlive the connection which opened them.

A session is known by its name; attaching again replays the last screenful. One viewer at a time holds a
session: a new one takes it over, so a reconnect never fights with its own ghost.
"""

import asyncio
import contextlib
import fcntl
import itertools
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blixt.cloud.agent.channel import Channel, ChannelClosed
from blixt.cloud.agent.reaper import Child, Reaper, SpawnError, shell_exit

REPLAY_BYTES = 64 * 1024
READ_BYTES = 16 * 1024
MAX_SESSIONS = 64
FULL_PAUSE_S = 0.02
# Opening a tty as a session leader makes it the controlling one, which needs no code between fork and exec.
_ON_TTY = 'exec "$@" 0<>"$0" 1>&0 2>&0'


class Terminal:
    """One shell on a pty."""

    def __init__(self, child: Child, master: int, slave: int) -> None:
        self.child = child
        self._master = master
        self._slave = slave  # kept open, so that the master never reads "hung up" before the shell opened it
        self._replay = bytearray()
        self._viewer: Channel | None = None
        self._pending: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)
        os.set_blocking(master, False)
        self._reading = False
        self._resume_reading()

    def resize(self, cols: int, rows: int) -> None:
        """Set the window size; the shell gets SIGWINCH."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    async def attach(self, channel: Channel) -> dict[str, Any]:
        """Show the terminal on a channel until the shell ends, or another viewer takes over."""
        previous, self._viewer = self._viewer, channel
        if previous is not None:
            await previous.finish({"exit": None, "taken_over": True})
        self._pending = asyncio.Queue(maxsize=16)
        channel.on_note = self._on_note
        shown = asyncio.ensure_future(self._show(channel, self._pending, bytes(self._replay)))
        typed = asyncio.ensure_future(self._type(channel))
        ending = asyncio.ensure_future(self._announce_end(self._pending))
        try:
            await asyncio.wait({shown, typed}, return_when=asyncio.FIRST_COMPLETED)
            if self.child.exited.done() and not channel.ended:
                await shown
                return {"exit": shell_exit(self.child.exited.result())}
            return {"exit": None}
        finally:
            for task in (shown, typed, ending):
                task.cancel()
            if self._viewer is channel:
                self._viewer = None
                self._resume_reading()

    def close(self) -> None:
        """Free the pty after the shell ended."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _on_note(self, note: dict[str, Any]) -> None:
        match note.get("resize"):
            case [int(columns), int(rows)]:
                self.resize(columns, rows)
            case _:
                return

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._master, self._on_output)

    def _on_output(self) -> None:
        if self._viewer is not None and self._pending.full():
            # The viewer is slow: let the shell block, as on a real terminal.
            asyncio.get_running_loop().remove_reader(self._master)
            self._reading = False
            return
        self._take()

    def _take(self) -> bool:
        """Read what the shell wrote; False when there is nothing now."""
        try:
            piece = os.read(self._master, READ_BYTES)
        except OSError:  # nothing there, or the last process with the tty is gone
            return False
        self._replay += piece
        del self._replay[:-REPLAY_BYTES]
        if self._viewer is not None:
            self._pending.put_nowait(piece)
        return True

    async def _show(self, channel: Channel, pending: "asyncio.Queue[bytes]", replay: bytes) -> None:
        if replay:
            await channel.write(replay)
        while piece := await pending.get():
            self._resume_reading()
            await channel.write(piece)

    async def _announce_end(self, pending: "asyncio.Queue[bytes]") -> None:
        """After the shell's exit, queue its last words and then the empty piece that means the end."""
        await self.child.wait()
        while pending is self._pending:
            if pending.full():
                await asyncio.sleep(FULL_PAUSE_S)
            elif not self._take():
                break
        await pending.put(b"")

    async def _type(self, channel: Channel) -> None:
        while (piece := await channel.read()) is not None:
            await self._write(piece[1])

    async def _write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                writable = asyncio.Event()
                loop.add_writer(self._master, writable.set)
                try:
                    await writable.wait()
                finally:
                    loop.remove_writer(self._master)


class Terminals:
    """The sessions of one allocation."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._sessions: dict[str, Terminal] = {}
        self._unnamed = itertools.count(1)

    async def attach(
        self, channel: Channel, session: str, *, cols: int, rows: int, cwd: Path, env: Mapping[str, str]
    ) -> dict[str, Any]:
        """Attach a channel to the named session, starting its shell when there is none.

        A session without a name ends with its viewer: nobody could come back to it.
        """
        if not session:
            terminal = self._start(f"unnamed-{next(self._unnamed)}", cwd, env)
            terminal.resize(cols, rows)
            try:
                return await terminal.attach(channel)
            finally:
                terminal.child.signal_group(signal.SIGHUP)
        terminal = self._sessions.get(session)
        if terminal is None or terminal.child.exited.done():
            terminal = self._start(session, cwd, env)
        terminal.resize(cols, rows)
        with contextlib.suppress(ChannelClosed):
            return await terminal.attach(channel)
        return {"exit": None}

    def _start(self, session: str, cwd: Path, env: Mapping[str, str]) -> Terminal:
        if len(self._sessions) >= MAX_SESSIONS:
            raise RuntimeError(f"There are {MAX_SESSIONS} terminals already; close one first.")
        master, slave = pty.openpty()
        tty = os.ttyname(slave)
        shell = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
        command = ["/bin/sh", "-c", _ON_TTY, tty, shell, "-i"]
        environment = {**env, "TERM": "xterm-256color", "SHELL": shell}
        null = os.open(os.devnull, os.O_RDWR)
        try:
            child = self._reaper.spawn(command, cwd=cwd, env=environment, stdout=null, stderr=null)
        except SpawnError:
            os.close(master)
            os.close(slave)
            raise
        finally:
            os.close(null)
        terminal = Terminal(child, master, slave)
        self._sessions[session] = terminal
        child.exited.add_done_callback(lambda _: self._ended(session, terminal))
        return terminal

    def _ended(self, session: str, terminal: Terminal) -> None:
        terminal.child.signal_group(signal.SIGHUP)
        if self._sessions.get(session) is terminal:
            del self._sessions[session]
        asyncio.get_running_loop().call_later(1.0, terminal.close)
