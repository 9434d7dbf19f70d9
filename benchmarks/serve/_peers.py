"""The servers that are compared, as processes: started, held still, ended."""

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from benchmarks.serve._load import post

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
BLIXT, LITSERVE, MOSEC, COLD = "blixt", "litserve", "mosec", "blixt cold lane"
UVICORN, HTTPTOOLS = "bare uvicorn", "bare httptools"


@dataclass
class Peer:
    """One server's process tree."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def tree(self) -> list[psutil.Process]:
        """All its processes."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def signal(self, number: int) -> None:
        """Send a signal to the whole tree."""
        for process in self.tree():
            os.kill(process.pid, number)

    def pss_mb(self) -> float:
        """Memory, shared pages counted once."""
        return sum(process.memory_full_info().pss for process in self.tree()) / 2**20


def command(name: str, model: str, port: int) -> list[str]:
    """How a server is started."""
    python = sys.executable
    if name in (BLIXT, COLD):
        rest = ["cold"] if name == COLD else []
        return [python, "-m", "benchmarks.serve._blixt_models", model, str(port), *rest]
    if name == LITSERVE:
        return [python, "-m", "benchmarks.serve._litserve_models", model, str(port)]
    if name == MOSEC:
        return [python, str(ROOT / "benchmarks" / "serve" / "_mosec_models.py"), model, str(port)]
    return [python, "-m", "benchmarks.serve._bare_models", name.removeprefix("bare "), str(port)]


@contextmanager
def peer(name: str, model: str, request: bytes) -> Iterator[Peer]:
    """A server that has answered one request, and is gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        command(name, model, port),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_answer(port, request)
        yield Peer(name, port, process)
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_answer(port: int, request: bytes) -> None:
    """Ask until the model has answered with 200."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(request)
                if sock.recv(15).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"port {port} did not answer within 90 s")


def multipart(body: bytes) -> bytes:
    """A request with one file in a form."""
    head = b'--x\r\ncontent-disposition: form-data; name="body"; filename="b"\r\n\r\n'
    return post(head + body + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")


def machine() -> dict[str, object]:
    """Where this was measured."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "versions": {name: version(name) for name in ("litserve", "mosec", "uvicorn", "httptools", "uvloop")},
    }
