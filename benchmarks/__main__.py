"""Runs every benchmark below this folder, one after the other, in fresh processes.

`python -m benchmarks` runs all; `python -m benchmarks train serve` runs those rooms'. Each script interleaves
blixt with its peers in one run, prints medians, spread and ratios, and writes the same as JSON into
`benchmarks/results/`.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def scripts(rooms: list[str]) -> list[Path]:
    """The benchmark scripts of the named rooms, or of all."""
    known = sorted(folder.name for folder in HERE.iterdir() if any(folder.glob("*.py")) and folder != HERE)
    for room in rooms:
        if room not in known:
            sys.exit(f"No benchmarks are called {room!r}; there are {', '.join(known)}.")
    return [path for room in rooms or known for path in sorted((HERE / room).glob("[!_]*.py"))]


def main() -> None:
    """Run them; exit non-zero when one fails."""
    failed: list[str] = []
    for path in scripts(sys.argv[1:]):
        module = f"benchmarks.{path.parent.name}.{path.stem}"
        print(f"\n== {module}", flush=True)
        if subprocess.run([sys.executable, "-m", module], cwd=HERE.parent).returncode:
            failed.append(module)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
