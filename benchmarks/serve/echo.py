"""blixt.serve against LitServe: echo, batched echo and streams, with no model time at all.

Both serve the same models from one worker. Rounds alternate; while one is measured the other is stopped
(SIGSTOP), so that an idle competitor's polling hurts nobody. CPU is that of the server's whole process tree.
`python -m benchmarks.serve.echo [--rounds 3] [--seconds 1.0]`
"""

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
from benchmarks.serve._load import Load, drive

TOKENS = 100
PEERS = ("blixt", "litserve")
RESULTS = Path(__file__).parent.parent / "results" / "serve-echo.json"


@dataclass(frozen=True)
class Case:
    """One workload."""

    name: str
    model: str
    connections: int
    units: int  # what one answer counts as: 1 request, or so many tokens
    unit: str


CASES = (
    Case("echo, 1 client", "echo", 1, 1, "request"),
    Case("echo, 32 clients", "echo", 32, 1, "request"),
    Case("batched echo, 64 clients", "batched", 64, 1, "request"),
    Case(f"16 streams of {TOKENS} tokens", "stream", 16, TOKENS, "token"),
)


@dataclass
class Peer:
    """One server process."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def signal(self, number: int) -> None:
        """Send a signal to the whole tree."""
        root = psutil.Process(self.process.pid)
        for process in [root, *root.children(recursive=True)]:
            os.kill(process.pid, number)


@contextmanager
def peer(name: str, model: str) -> Iterator[Peer]:
    """A server that answers, and is gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", f"benchmarks.serve._{name}_models", model, str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield Peer(name, port, process)
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer within 60 s")


def measure(case: Case, rounds: int, seconds: float) -> dict[str, list[Load]]:
    """All rounds of one workload, the peers in turn."""
    loads: dict[str, list[Load]] = {name: [] for name in PEERS}
    with peer(PEERS[0], case.model) as one, peer(PEERS[1], case.model) as other:
        for server in (one, other):
            drive(server.port, server.process.pid, case.connections, 0.3)  # warm
            server.signal(signal.SIGSTOP)
        for turn in range(rounds):
            for server in (one, other) if turn % 2 == 0 else (other, one):
                server.signal(signal.SIGCONT)
                loads[server.name].append(drive(server.port, server.process.pid, case.connections, seconds))
                server.signal(signal.SIGSTOP)
    return loads


def summary(case: Case, loads: dict[str, list[Load]]) -> dict[str, object]:
    """Medians, spread and ratios of one workload."""
    out: dict[str, object] = {"case": case.name, "unit": case.unit}
    medians: dict[str, tuple[float, float]] = {}
    for name, runs in loads.items():
        rate = [load.per_second * case.units for load in runs]
        cpu = [load.cpu_us / case.units for load in runs]
        medians[name] = (statistics.median(rate), statistics.median(cpu))
        out[name] = {
            "per_second": [round(value, 1) for value in rate],
            "cpu_us": [round(value, 2) for value in cpu],
            "p50_ms": round(statistics.median(load.p50_ms for load in runs), 3),
            "failed": sum(load.failed for load in runs),
            "median_per_second": round(medians[name][0], 1),
            "median_cpu_us": round(medians[name][1], 2),
        }
    ours, theirs = (medians[name] for name in PEERS)
    out["rate_ratio"] = round(ours[0] / theirs[0], 2)
    out["cpu_ratio"] = round(theirs[1] / ours[1], 2)
    return out


def show(result: dict[str, object]) -> None:
    """One workload as text."""
    print(f"{result['case']}: {result['rate_ratio']}x the rate, {result['cpu_ratio']}x less CPU")
    for name in PEERS:
        row = result[name]
        assert isinstance(row, dict)
        spread = f"{min(row['cpu_us']):.0f}-{max(row['cpu_us']):.0f}"
        rate = f"{row['median_per_second']:>10,.0f} {result['unit']}s/s"
        print(
            f"  {name:9s} {rate}   {row['median_cpu_us']:>8.1f} µs CPU ({spread})   "
            f"p50 {row['p50_ms']:.2f} ms   {row['failed']} failed"
        )


def machine() -> dict[str, object]:
    """Where this was measured."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "litserve": version("litserve"),
        "uvicorn": version("uvicorn"),
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, load {here['load_average']}, Python {here['python']}")
    results = [summary(case, measure(case, arguments.rounds, arguments.seconds)) for case in CASES]
    for result in results:
        show(result)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": here, "results": results}, indent=1))
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
