"""The shared memory of one server among others of this machine."""

import os
from pathlib import Path

import psutil

from blixt.serve.testing import RunningServer


class Values:
    """Where a server's large values lie on their way from worker to worker."""

    def __init__(self, service: RunningServer) -> None:
        server = psutil.Process(service.process.pid)
        fds = (Path(f"/proc/{pid.pid}/fd") for pid in (server, *server.children(recursive=True)))
        links = {os.readlink(fd) for folder in fds for fd in folder.iterdir() if fd.is_symlink()}
        self.folders = [Path(link) for link in links if Path(link).name.startswith("blixt-serve-")]
        assert self.folders, "nobody holds the lock of the folder of values"

    def left(self) -> list[Path]:
        """The values that are there."""
        return [value for folder in self.folders for value in folder.iterdir()]

    def nothing_left(self) -> bool:
        """Whether all have been taken or swept away."""
        return not self.left()

    def age(self, age_s: float) -> None:
        """Let those that are there be so old."""
        for value in self.left():
            stamp = value.stat().st_mtime - age_s
            os.utime(value, (stamp, stamp))
