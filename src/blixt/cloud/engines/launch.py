"""Start a process that outlives us: joined to its control groups first, its parent init."""

import fcntl
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# The first sh joins the groups and leaves; init adopts its child, so a dying server takes nothing along.
_SCRIPT = """
while [ "$1" != "--" ]; do echo $$ > "$1" || exit 125; shift; done
shift
"$@" &
"""
LAUNCH_TIMEOUT_S = 60


class Lock:
    """A lock file held as long as any process that inherited it lives; the kernel frees it, never we."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def try_acquire(self) -> int | None:
        """Return an open file descriptor that holds the lock, or None when somebody alive holds it."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def is_held(self) -> bool:
        """Whether a process of the allocation lives."""
        fd = self.try_acquire()
        if fd is None:
            return True
        os.close(fd)
        return False


def launch(
    command: Sequence[str],
    *,
    attach: Sequence[Path],
    keep: Sequence[int],
    output: int,
    env: Mapping[str, str],
) -> None:
    """Start `command` detached from this process.

    Args:
        command: What to run.
        attach: Control group files that the process writes its pid to before it starts.
        keep: File descriptors the process inherits.
        output: Where its stdout and stderr go.
        env: Its whole environment.
    """
    argv = ["/bin/sh", "-c", _SCRIPT, "blixt-launch", *map(str, attach), "--", *command]
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(env),
        pass_fds=tuple(keep),
        start_new_session=True,
        check=True,
        timeout=LAUNCH_TIMEOUT_S,
    )
