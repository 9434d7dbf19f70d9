"""Where the tour is told: commands as they are typed, their output, and whether it is true."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

COMMAND_TIMEOUT_S = 180.0


class Untrue(Exception):
    """Something that the tour promises did not happen; the message says what."""


class Stage:
    """Runs the tour's commands in a shell, exactly as it prints them.

    Args:
        env: What the tour exports on top of the environment, such as BLIXT_DATA_DIR.
    """

    def __init__(self, env: dict[str, str]) -> None:
        here = sysconfig.get_path("scripts")
        path = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
        # Another server's address in the caller's environment must not win over the tour's own.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BLIXT_")}
        self.env = kept | {"PATH": path, "PYTHONUNBUFFERED": "1"} | env
        self.began = time.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._width = min(shutil.get_terminal_size((110, 24)).columns, 140)

    def title(self, text: str) -> None:
        """The first line."""
        print(self._paint("1", text), flush=True)

    def chapter(self, number: int, text: str) -> None:
        """Begin one of the tour's steps."""
        elapsed = time.monotonic() - self.began
        print(
            f"\n{self._paint('1;36', f'{number}  {text}')}  {self._paint('2', f'{elapsed:.0f} s')}",
            flush=True,
        )

    def show(self, line: str, prompt: str = "$") -> None:
        """Print a command (or, with `>>>`, a line of Python) that is about to run."""
        print(f"   {self._paint('2', prompt)} {self._paint('1', line)}", flush=True)

    def note(self, text: str) -> None:
        """Print output, indented and cut at the window's width."""
        for line in text.rstrip().splitlines():
            room = self._width - 6
            print(
                f"     {self._paint('2', line if len(line) <= room else line[: room - 1] + '…')}", flush=True
            )

    def plain(self, text: str) -> None:
        """Print a line as it is."""
        print(f"     {text}", flush=True)

    def true(self, holds: bool, what: str, otherwise: str) -> None:
        """State something that must be true.

        Args:
            holds: Whether it is.
            what: What is true, with figures.
            otherwise: The sentence of the error when it is not.

        Raises:
            Untrue: When it is not.
        """
        if not holds:
            raise Untrue(otherwise)
        print(f"   {self._paint('32', '✓')} {what}", flush=True)

    def live(self, text: str) -> None:
        """A line that the next one replaces; only on a terminal."""
        if self._colour:
            print(f"\r\033[K     {self._paint('2', text[: self._width - 6])}", end="", flush=True)

    def live_end(self) -> None:
        """Clear the live line."""
        if self._colour:
            print("\r\033[K", end="", flush=True)

    def run(self, command: str, *, quiet: bool = False, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Type a command: print it, run it, print its output.

        Args:
            command: A shell line.
            quiet: Keep its output to yourself.
            timeout_s: How long it may take.

        Returns:
            Its stdout.

        Raises:
            Untrue: When it fails; the message is the last thing it said.
        """
        self.show(command)
        process = self.start(command)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            end(process)
            raise Untrue(f"`{command}` was not done after {timeout_s:.0f} s.") from None
        except BaseException:
            end(process)
            raise
        if process.returncode != 0:
            last = (err.strip() or out.strip() or "it said nothing").splitlines()
            raise Untrue(f"`{command}` ended with {process.returncode}: {' '.join(last[-2:])}")
        if not quiet:
            self.note(err + out)
        return out

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, its output captured."""
        return subprocess.Popen(
            ["bash", "-c", command],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def watch(self, command: str, glance: Callable[[], None], *, every_s: float, timeout_s: float) -> str:
        """Run a command and look at something else again and again until it ends; returns all it wrote.

        Raises:
            Untrue: When it fails or takes too long.
        """
        self.show(command)
        deadline = time.monotonic() + timeout_s
        process = self.start(command + " 2>&1")
        try:
            while True:
                try:
                    out, _ = process.communicate(timeout=every_s)
                    break
                except subprocess.TimeoutExpired:
                    glance()
                if time.monotonic() > deadline:
                    raise Untrue(f"`{command}` was not done after {timeout_s:.0f} s.")
        except BaseException:
            end(process)
            raise
        finally:
            self.live_end()
        if process.returncode != 0:
            self.note("\n".join(out.splitlines()[-15:]))
            raise Untrue(f"`{command}` ended with {process.returncode}.")
        return out

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def end(process: subprocess.Popen[str]) -> None:
    """End a command and everything it started."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
            break
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def sparkline(values: list[float], width: int = 40) -> str:
    """A curve in one line of text.

    >>> sparkline([3.0, 2.0, 1.0, 0.0])
    '█▅▃▁'
    """
    if not values:
        return ""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    bars = "▁▂▃▄▅▆▇█"
    return "".join(bars[int((value - low) / ((high - low) or 1) * 7)] for value in values)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
