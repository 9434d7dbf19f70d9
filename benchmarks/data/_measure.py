"""The clock of a measured process; needs nothing but Python, since peers run it in environments of their own.

A reader is a function `(folder, options) -> iterator of samples per batch`; what it returns at its end,
if anything, is added to the result. Its module is imported before the clock starts.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Reader = Callable[[Path, dict[str, Any]], Iterator[int]]


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main(readers: dict[str, Reader]) -> None:
    """Run the reader that the command line names, and print what was measured as one line of JSON."""
    row, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    before, start = cpu_seconds(), time.perf_counter()
    first, samples, found = None, 0, {}
    reader = readers[row](folder, options)
    while True:
        try:
            samples += next(reader)
        except StopIteration as end:
            found = end.value or {}
            break
        first = time.perf_counter() - start if first is None else first
    wall = time.perf_counter() - start
    result = {"samples": samples, "first_s": first, "wall_s": wall, "cpu_before_s": before, **found}
    print("RESULT " + json.dumps(result), flush=True)
    os._exit(0)  # taking libraries down again is not measured
