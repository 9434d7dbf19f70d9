"""Open files of the front: a worker that has ended leaves none behind."""

import os
import signal
from pathlib import Path

from blixt.serve import Server
from blixt.serve.testing import RunningServer, running, wait_until

from .apis import Tools


def open_files(service: RunningServer) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def another_than(pid: int, pids: list[int]) -> bool:
    return len(pids) == 1 and pid not in pids


def test_workers_that_die_leave_no_open_files_in_the_front():
    with running(Server(Tools(), accelerator="cpu")) as service:
        before = open_files(service)
        for _ in range(4):
            (pid,) = service.worker_pids()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: another_than(pid, service.worker_pids()), 60, "another worker")
            service.wait_ready()
        wait_until(lambda: open_files(service) <= before, 60, "the files to be closed")
