"""blixt.serve against LitServe and mosec: CPU for each answer, answers a second, and latency.

All serve the same models from one worker, in one run. Rounds alternate; while one server is measured the
others are stopped (SIGSTOP), so that an idle competitor's polling hurts nobody. CPU is that of a server's
whole process tree. A bare uvicorn app and a bare httptools protocol, which only echo, show what HTTP costs.
`python -m benchmarks.serve.speed [--quick] [--only WORD] [--rounds 5] [--seconds 2.0]`
"""

import argparse
import json
import signal
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.serve._load import Load, drive, post
from benchmarks.serve._peers import (
    BLIXT,
    COLD,
    HTTPTOOLS,
    LITSERVE,
    MOSEC,
    RESULTS,
    UVICORN,
    machine,
    multipart,
    peer,
)

TOKENS = 200
ECHO = b'{"input": 4.0}'
ROW = json.dumps({"input": [round(i / 512, 3) for i in range(512)]}).encode()
MEGABYTE = bytes(range(256)) * 4096


@dataclass(frozen=True)
class Case:
    """One workload."""

    name: str
    model: str
    connections: int
    body: bytes = ECHO
    units: int = 1  # what one answer counts as: 1 request, or so many tokens
    unit: str = "request"
    peers: tuple[str, ...] = (BLIXT, LITSERVE, MOSEC)

    def request(self, peer: str) -> bytes:
        """What a server is sent."""
        if self.model != "large":
            return post(self.body)
        return multipart(self.body) if peer == LITSERVE else post(self.body, "application/octet-stream")


ALL = (BLIXT, COLD, LITSERVE, MOSEC, UVICORN, HTTPTOOLS)
CASES = (
    Case("echo, 1 client", "echo", 1, peers=ALL),
    Case("echo, 32 clients", "echo", 32, peers=ALL),
    Case("echo, 256 clients", "echo", 256, peers=ALL),
    Case("batched echo (64), 256 clients", "batched", 256),
    Case("batched MLP 512x512x3 (64), 256 clients", "mlp", 256, ROW),
    Case(f"64 streams of {TOKENS} tokens", "stream", 64, units=TOKENS, unit="token"),
    Case("1 MB body, 16 clients", "large", 16, MEGABYTE),
)


def measure(case: Case, rounds: int, seconds: float) -> dict[str, list[Load]]:
    """All rounds of one workload, the peers in turn."""
    loads: dict[str, list[Load]] = {name: [] for name in case.peers}
    with ExitStack() as stack:
        servers = []
        for name in case.peers:
            request = case.request(name)
            server = stack.enter_context(peer(name, case.model, request))
            drive(server.port, server.process.pid, request, case.connections, 0.5)  # warm
            server.signal(signal.SIGSTOP)
            servers.append(server)
        for turn in range(rounds):
            for server in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
                server.signal(signal.SIGCONT)
                request = case.request(server.name)
                load = drive(server.port, server.process.pid, request, case.connections, seconds)
                loads[server.name].append(load)
                server.signal(signal.SIGSTOP)
    return loads


def summary(case: Case, loads: dict[str, list[Load]]) -> dict[str, Any]:
    """Medians, spread and ratios of one workload."""
    rows: dict[str, Any] = {}
    for name, runs in loads.items():
        rate = [load.per_second * case.units for load in runs]
        cpu = [load.cpu_us / case.units for load in runs]
        rows[name] = {
            "per_second": [round(value, 1) for value in rate],
            "cpu_us": [round(value, 2) for value in cpu],
            "p50_ms": round(statistics.median(load.percentile_ms(50) for load in runs), 3),
            "p99_ms": round(statistics.median(load.percentile_ms(99) for load in runs), 3),
            "failed": sum(load.failed for load in runs),
            "median_per_second": round(statistics.median(rate), 1),
            "median_cpu_us": round(statistics.median(cpu), 2),
        }
    ours = rows.get(BLIXT) or next(iter(rows.values()))
    for row in rows.values():
        row["cpu_ratio"] = round(row["median_cpu_us"] / ours["median_cpu_us"], 2)
        row["rate_ratio"] = round(ours["median_per_second"] / max(row["median_per_second"], 1e-9), 2)
    return {"case": case.name, "unit": case.unit, "rows": rows}


def show(result: dict[str, Any]) -> None:
    """One workload as a table."""
    unit = result["unit"]
    print(f"\n{result['case']}")
    titles = ("us CPU/" + unit, "spread", "x blixt", unit + "s/s", "p50 ms", "p99 ms")
    print(
        "  " + " " * 16 + "".join(f" {t:>{w}s}" for t, w in zip(titles, (16, 13, 8, 12, 8, 8), strict=True))
    )
    for name, row in result["rows"].items():
        spread = f"{min(row['cpu_us']):.0f}-{max(row['cpu_us']):.0f}"
        failed = f"   {row['failed']} FAILED" if row["failed"] else ""
        print(
            f"  {name:16s} {row['median_cpu_us']:>16.1f} {spread:>13s} {row['cpu_ratio']:>8.1f} "
            f"{row['median_per_second']:>12,.0f} {row['p50_ms']:>8.2f} {row['p99_ms']:>8.2f}{failed}"
        )


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true", help="one short round, nothing is written")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--peers", default="", help="servers by name, separated by commas")
    arguments = parser.parse_args()
    rounds, seconds = (1, 1.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, load {here['load_average']}, Python {here['python']}")
    results: list[dict[str, Any]] = []
    for case in CASES:
        if arguments.only in case.name:
            if arguments.peers:
                chosen = arguments.peers.split(",")
                case = Case(**{**case.__dict__, "peers": tuple(p for p in case.peers if p in chosen)})
            results.append(summary(case, measure(case, rounds, seconds)))
            show(results[-1])
    if not (arguments.quick or arguments.only or arguments.peers):
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / "serve-speed.json"
        path.write_text(json.dumps({"machine": here, "results": results}, indent=1))
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
