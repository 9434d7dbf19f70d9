"""A server in a process of its own, for tests and benchmarks: on a free port, ready, and gone afterwards."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import httpx

from blixt.serve.server import Server

START_S = 120.0  # a busy machine that starts a dozen processes may need a while


@dataclass(slots=True)
class RunningServer:
    """A server process and how to reach it."""

    url: str
    process: SpawnProcess

    def info(self) -> dict[str, Any]:
        """What `/info` says."""
        return httpx.get(f"{self.url}/info", timeout=60).raise_for_status().json()

    def worker_pids(self) -> list[int]:
        """Process ids of all live workers."""
        return [pid for api in self.info()["apis"] for pid in api["pids"]]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=60).raise_for_status().text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(s.rsplit(" ", 1)[1]) for s in samples if all(label in s for label in wanted))

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until `/ready` says so.

        Raises:
            TimeoutError: It did not within `timeout_s`.
        """
        wait_until(lambda: _status(f"{self.url}/ready") == 200, timeout_s, f"{self.url} to be ready")

    def terminate(self, timeout_s: float = 60.0) -> int:
        """Send SIGTERM and return the exit code.

        Raises:
            TimeoutError: The process did not end.
        """
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for the end of the process and return its exit code.

        Raises:
            TimeoutError: It did not end.
        """
        self.process.join(timeout_s)
        if self.process.exitcode is None:
            raise TimeoutError(f"the server did not end within {timeout_s:g} s")
        return self.process.exitcode


@contextmanager
def running(server: Server, *, ready: bool = True, **options: Any) -> Generator[RunningServer]:
    """Run a server (with APIs that can be pickled) in its own process.

    Args:
        server: Must not have been used in this process.
        ready: Wait until it is ready.
        options: Arguments of `Server.run`; without any it listens on a free port of this machine.

    Example:
        ```python
        with running(Server(Echo())) as service:
            httpx.post(f"{service.url}/predict", json={"input": 4})
        ```
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(server, there, options))
    process.start()
    there.close()
    try:
        if not here.poll(START_S):
            raise TimeoutError(f"the server did not begin to listen within {START_S:g} s")
        service = RunningServer(here.recv(), process)
        if ready:
            service.wait_ready(START_S)
        yield service
    finally:
        _end(process)
        here.close()


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Check a condition again and again until it holds.

    Raises:
        TimeoutError: It did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.02)


def _run(server: Server, pipe: Connection, options: dict[str, Any]) -> None:
    known: dict[str, Any] = {"port": 0, "on_listening": pipe.send, **options}
    server.run(**known)


def _end(process: SpawnProcess) -> None:
    process.terminate()
    process.join(15)
    if process.exitcode is None:
        process.kill()
        process.join()


def _status(url: str) -> int:
    path = url.removeprefix("unix:").removesuffix("/ready") if url.startswith("unix:") else None
    # The certificate of a test is its own authority; whether it is right is for the test to check.
    transport = httpx.HTTPTransport(uds=path, verify=False)
    try:
        with httpx.Client(transport=transport, timeout=5) as client:
            return client.get("http://unix/ready" if path else url).status_code
    except httpx.TransportError:
        return 0
