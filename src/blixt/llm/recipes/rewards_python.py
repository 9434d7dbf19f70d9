"""Run a short program that a model wrote, with little time, memory and room. A guard, not a sandbox."""

import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from os import killpg

MEMORY_BYTES = 1 << 30
FILE_BYTES = 1 << 16
OPEN_FILES = 32

_GUARD = f"""
import resource, sys
for what, much in ((resource.RLIMIT_CPU, {{seconds}}), (resource.RLIMIT_AS, {MEMORY_BYTES}),
                   (resource.RLIMIT_FSIZE, {FILE_BYTES}), (resource.RLIMIT_NOFILE, {OPEN_FILES}),
                   (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(what, (much, much))
exec(compile(sys.stdin.read(), "answer", "exec"), {{{{"__name__": "__main__"}}}})
"""


def run_python(code: str, timeout_s: float) -> bool:
    """Whether a program ends without an error.

    It runs in a process of its own, in an empty folder that is removed afterwards, without the environment
    and without installed packages. What it may use of processor time, memory, files and open files is
    limited; the network and other files are not kept from it.

    Args:
        code: The program.
        timeout_s: Seconds until it is ended, with all it started.
    """
    guard = _GUARD.format(seconds=max(1, int(timeout_s)))
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", guard],
            cwd=folder,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.communicate(code.encode(), timeout_s)
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode == 0
