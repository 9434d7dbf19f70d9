"""blixt.serve against LitServe and mosec when nothing happens: idle CPU, memory, start to first answer.

`python -m benchmarks.serve.rest [--quick] [--rounds 3] [--seconds 5.0]`
"""

import argparse
import json
import statistics
import time
from typing import Any

from benchmarks.serve._load import post, tree_cpu
from benchmarks.serve._peers import BLIXT, LITSERVE, MOSEC, RESULTS, machine, peer

PEERS = (BLIXT, LITSERVE, MOSEC)
REQUEST = post(b'{"input": 4.0}')


def measure(name: str, seconds: float) -> dict[str, float]:
    """One server's life: how soon it answers, what it holds, what it spends on nothing (batching is on)."""
    began = time.perf_counter()
    with peer(name, "batched", REQUEST) as server:
        start_s = time.perf_counter() - began
        time.sleep(1.0)  # imports that go on in the background
        memory_mb = server.pss_mb()
        cpu, began = tree_cpu(server.tree()[0]), time.perf_counter()
        time.sleep(seconds)
        idle = (tree_cpu(server.tree()[0]) - cpu) / (time.perf_counter() - began) * 100
        return {
            "start_s": start_s,
            "memory_mb": memory_mb,
            "idle_percent": idle,
            "processes": len(server.tree()),
        }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--quick", action="store_true", help="one short round, nothing is written")
    arguments = parser.parse_args()
    rounds, seconds = (1, 2.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, load {here['load_average']}, Python {here['python']}")
    lives: dict[str, list[dict[str, float]]] = {name: [] for name in PEERS}
    for turn in range(rounds):
        for name in PEERS if turn % 2 == 0 else PEERS[::-1]:
            lives[name].append(measure(name, seconds))
    rows: dict[str, Any] = {
        name: {key: round(statistics.median(life[key] for life in runs), 2) for key in runs[0]}
        for name, runs in lives.items()
    }
    print(
        f"  {'':10s} {'first answer s':>15s} {'memory MB':>10s} {'idle % of a core':>17s} {'processes':>10s}"
    )
    for name, row in rows.items():
        print(
            f"  {name:10s} {row['start_s']:>15.2f} {row['memory_mb']:>10.1f} {row['idle_percent']:>17.2f} "
            f"{row['processes']:>10.0f}"
        )
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / "serve-rest.json"
        path.write_text(json.dumps({"machine": here, "rows": rows, "runs": lives}, indent=1))
        print(f"written to {path}")


if __name__ == "__main__":
    main()
