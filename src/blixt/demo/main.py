"""The tour from its first line to its last: options, steps, and a clean machine at the end."""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from blixt.client import BlixtError, default_data_dir
from blixt.demo.leftovers import Traces
from blixt.demo.stage import Stage, Untrue
from blixt.demo.steps import STEPS, Plan, Tour

QUICK = Plan(vocab_size=512, max_bytes="500KB", batch_size=8, steps=40, ranks_steps=20, least_fall=0.5)
_CLEAN_WITHIN_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tour.

    Args:
        argv: `--keep` leaves the cloud up; `--quick` trains less.

    Returns:
        0 when everything was true, 1 when something was not, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m blixt.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cloud up and print its address")
    parser.add_argument("--quick", action="store_true", help="train less: for a first look, and for tests")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _as_interrupt)
    plan = QUICK if options.quick else Plan()
    with ExitStack() as stack:
        if options.keep:
            data_dir, plan = default_data_dir(), replace(plan, port=8480)
        else:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blixt-demo-")))
        return _tour(plan, data_dir, keep=options.keep)


def _tour(plan: Plan, data_dir: Path, *, keep: bool) -> int:
    stage = Stage({"BLIXT_DATA_DIR": str(data_dir)})
    tour, traces = Tour(stage, plan, data_dir), Traces(data_dir)
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    stage.title("blixt: from an empty machine to a trained, served, billed model")
    stage.note(f"{os.cpu_count()} cores, {memory_gb:.0f} GB; everything is kept in {data_dir}")
    stage.show(f"export BLIXT_DATA_DIR={data_dir}")
    code = 0
    try:
        for number, (title, step) in enumerate(STEPS, 1):
            stage.chapter(number, title)
            step(tour)
            traces.learn()
    except (Untrue, BlixtError) as error:
        print(f"\nerror: {error}", file=sys.stderr, flush=True)
        code = 1
    except Exception as error:
        if os.environ.get("BLIXT_DEBUG") == "1":
            traceback.print_exc()
        print(f"\nerror: Unexpected {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 1
    except KeyboardInterrupt:
        print("\nInterrupted: stopping the cloud.", file=sys.stderr, flush=True)
        code = 130
    if keep and code == 0:
        _keep(tour)
    else:
        code = _clean(tour, traces, code)
    if code == 0:
        print(f"\nAll of it was true, in {time.monotonic() - stage.began:.0f} s.", flush=True)
    return code


def _keep(tour: Tour) -> None:
    """Leave the cloud up and say how to get in, and how to end it."""
    stage = tour.stage
    stage.chapter(len(STEPS) + 1, "Yours to keep")
    stage.plain(f"Console, signed in, for one use: {tour.cloud.console_url()}")
    stage.plain(f"Stop it with: BLIXT_DATA_DIR={tour.data_dir} blixt down")


def _clean(tour: Tour, traces: Traces, code: int) -> int:
    """Stop the cloud and look for what it left; Ctrl-C cannot interrupt this, only time-outs do."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    stage = tour.stage
    try:
        stage.chapter(len(STEPS) + 1, "Leave nothing behind")
        traces.learn()
        if tour.client:
            tour.client.close()
        try:
            stage.run("blixt down", quiet=True, timeout_s=90)
            deadline = time.monotonic() + _CLEAN_WITHIN_S
            while (left := traces.left()) and time.monotonic() < deadline:
                signal.sigtimedwait([], 0.1)  # a killed process needs a moment to vanish
            stage.true(
                not left, "no process, mount or control group is left", f"Left behind: {'; '.join(left)}"
            )
        except Untrue as error:
            print(f"\nerror: {error}", file=sys.stderr, flush=True)
            code = code or 1
        return code
    finally:
        signal.signal(signal.SIGINT, before)


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
