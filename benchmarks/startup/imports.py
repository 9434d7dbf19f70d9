"""How long a person waits before anything happens: `import blixt`, `blixt --help`, the rooms' imports.

Each command runs in a fresh interpreter, interleaved over the rounds; the figure is wall time
less that of an empty interpreter.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 7
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import blixt": ["-c", "import blixt"],
    "blixt --help": ["-m", "blixt.cli.main", "--help"],
    "import blixt.client": ["-c", "import blixt.client"],
    "import blixt.data": ["-c", "import blixt.data"],
    "import blixt.serve": ["-c", "import blixt.serve"],
    "import torch": ["-c", "import torch"],
    "import blixt.trainer": ["-c", "from blixt.trainer import Trainer"],
    "import lightning.pytorch": ["-c", "from lightning.pytorch import Trainer"],
}
RESULTS = Path(__file__).parent.parent / "results" / "startup-imports.json"


def seconds(arguments: list[str]) -> float:
    """Wall seconds of one fresh interpreter."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure, print a table and write JSON."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    empty = statistics.median(times["python -c pass"])
    rows = {
        name: {
            "median_ms": round(
                1000 * (statistics.median(values) - (empty if name != "python -c pass" else 0)), 1
            ),
            "spread_ms": round(1000 * (max(values) - min(values)), 1),
        }
        for name, values in times.items()
    }
    print(f"{platform.platform()}, Python {platform.python_version()}, {ROUNDS} rounds, beyond an empty one:")
    for name, row in rows.items():
        print(f"{name:28} {row['median_ms']:9.1f} ms   spread {row['spread_ms']:.1f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"machine": platform.platform(), "rounds": ROUNDS, "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
