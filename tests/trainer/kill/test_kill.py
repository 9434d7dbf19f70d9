"""kill -9 and SIGTERM everywhere in a run of 20 steps: what goes on ends with the very same weights.

One run is struck at every step in turn, going on each time (but for two ranks with workers, which take long).
Of the rest a spread sample is tried, each place by a run of its own; with BLIXT_KILL_MATRIX=full all of them.
"""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from .runs import BATCHES, SAVE_EVERY, STEPS, VAL_BATCHES, VAL_EVERY, Job, Kill, ask

FULL = os.environ.get("BLIXT_KILL_MATRIX") == "full"
SAVES = STEPS // SAVE_EVERY
VALIDATIONS = STEPS // VAL_EVERY * VAL_BATCHES
CONFIGURATIONS = [(1, 0), (1, 2), (2, 0), (2, 2)]
AGAIN_AND_AGAIN = CONFIGURATIONS if FULL else CONFIGURATIONS[:3]
SAMPLE_OF = {(1, 0): 4, (1, 2): 12, (2, 0): 16, (2, 2): 32}


def places(ranks: int) -> list[Kill]:
    """Every place, with the last rank struck where it matters who is."""
    last = ranks - 1
    steps = range(1, STEPS + 1)
    kills = [Kill("batch", step, signal.SIGKILL, rank=step % ranks) for step in steps]
    kills += [Kill("batch", step, signal.SIGTERM, rank=step % ranks) for step in steps]
    for at in ("torn", "unnamed", "named"):
        kills += [Kill(at, save) for save in range(1, SAVES + 1)]
    kills += [Kill("unnamed", save, signal.SIGTERM) for save in range(1, SAVES + 1)]
    for number in range(1, VALIDATIONS + 1):
        kills.append(Kill("validation", number, signal.SIGKILL, rank=last))
        kills.append(Kill("validation", number, signal.SIGTERM, rank=last))
    return kills


def chosen(ranks: int, workers: int) -> list[Kill]:
    """All of them, or a sample in which the configurations take turns."""
    if FULL:
        return places(ranks)
    others = [kill for kill in places(ranks) if kill.at != "batch" or (ranks, workers) not in AGAIN_AND_AGAIN]
    return others[ranks + workers :: SAMPLE_OF[ranks, workers]]


@pytest.fixture(scope="module")
def undisturbed(server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """The weights without interruption, by the number of ranks; workers must not change them."""
    found: dict[int, dict[str, Any]] = {}
    for ranks, workers in CONFIGURATIONS:
        folder = tmp_path_factory.mktemp(f"whole-{ranks}-{workers}")
        assert ask(server, Job(str(folder), ranks, workers)) == 0
        weights = torch.load(folder / "weights.pt")
        assert same(found.setdefault(ranks, weights), weights), f"{workers} workers change the weights"
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(("ranks", "workers"), AGAIN_AND_AGAIN)
def test_a_run_that_is_struck_at_every_step_ends_with_bitwise_the_same_weights(
    server: Any, undisturbed: Any, tmp_path: Path, ranks: int, workers: int, by: signal.Signals
) -> None:
    job, done = Job(str(tmp_path), ranks, workers), 0
    # A rank that dies alone is outlived by its workers, whose 5 s the other one would wait for each time.
    together = by is signal.SIGKILL and ranks > 1 and workers > 0
    while done < STEPS and not (tmp_path / "weights.pt").exists():
        kill = Kill("batch", done + 1, by, rank=(done + 1) % ranks, all=together)
        shutil.rmtree(tmp_path / "pids", ignore_errors=True)
        code = ask(server, replace(job, kill=kill))
        assert code in expected_codes(kill, ranks), f"{kill}: the attempt ended with {code}"
        # Two ranks that are told to go leave together, a few steps later.
        done = done + 1 if code != 143 else left(tmp_path, ranks)[0]["steps"]
    if not (tmp_path / "weights.pt").exists():
        assert ask(server, job) == 0
    assert same(torch.load(tmp_path / "weights.pt"), undisturbed[ranks])


@pytest.mark.timeout(3600 if FULL else 600)
@pytest.mark.parametrize(("ranks", "workers"), CONFIGURATIONS)
def test_a_run_that_was_killed_anywhere_ends_with_bitwise_the_same_weights(
    server: Any, undisturbed: Any, tmp_path: Path, ranks: int, workers: int
) -> None:
    for index, kill in enumerate(chosen(ranks, workers)):
        strike_and_go_on(server, Job(str(tmp_path / str(index)), ranks, workers, kill), undisturbed[ranks])


@pytest.mark.timeout(3600 if FULL else 600)
def test_ranks_that_are_killed_together_go_on_from_whole_shards_only(server: Any, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert ask(server, Job(str(whole), 2, 0, sharded=True)) == 0
    weights = torch.load(whole / "weights.pt")
    for index, kill in enumerate(places_of_shards()):
        strike_and_go_on(server, Job(str(tmp_path / str(index)), 2, 0, kill, sharded=True), weights)


def places_of_shards() -> list[Kill]:
    """One rank, or all at once, killed in one save into shards, or in a step."""
    last = SAVES if FULL else 2
    kills = [Kill("batch", 7, rank=1, all=True)]
    for save in range(2, last + 1):
        kills += [Kill("torn", save, rank=1), Kill("shard", save, rank=1)]
        kills += [Kill(at, save, all=True) for at in ("shard", "index", "unnamed", "named")]
    return kills


def strike_and_go_on(server: Any, job: Job, weights: dict[str, Any]) -> None:
    """Run `job` until it is killed, then again; it must end with these weights."""
    kill, folder = job.kill, Path(job.folder)
    assert kill is not None
    code = ask(server, job)
    assert code in expected_codes(kill, job.ranks), f"{kill}: the first attempt ended with {code}"
    if code == 143:
        assert left(folder, job.ranks)[0] == left(folder, job.ranks)[-1], f"{kill}: left at different places"
        prompt = kill.at != "validation" or job.ranks > 1 or left(folder, 1)[0]["validation"] == kill.number
        assert prompt, f"{kill}: the validation went on"
    finished = (folder / "weights.pt").exists()
    assert not finished or kill.signal == signal.SIGTERM, f"{kill}: nobody was killed"
    if not finished:
        kept = sorted(folder.rglob("*.ckpt"))
        assert kept or kill.number * _steps(kill) <= SAVE_EVERY, f"{kill}: nothing was saved"
        assert ask(server, replace(job, kill=None)) == 0, f"{kill}: could not go on"
    assert same(torch.load(folder / "weights.pt"), weights), f"{kill}: other weights"


def left(folder: Path, ranks: int) -> list[dict[str, int]]:
    """Where each rank was when the first attempt ended."""
    return [json.loads((folder / f"left{rank}.json").read_text()) for rank in range(ranks)]


def expected_codes(kill: Kill, ranks: int) -> set[int]:
    """How an attempt may end; a signal in its last steps finds nothing more to stop."""
    if kill.signal == signal.SIGTERM:
        last = {"batch": STEPS - BATCHES // 2, "unnamed": SAVES - 2, "validation": VALIDATIONS - VAL_BATCHES}
        late = kill.number > last[kill.at]
        return {143, 0} if late and (ranks > 1 or kill.at == "batch") else {143}
    if ranks > 1:
        return {1}
    return {-signal.SIGXFSZ} if kill.at == "torn" else {-signal.SIGKILL}


def _steps(kill: Kill) -> int:
    """How many steps lie between two of its kind."""
    return {"batch": 1, "validation": 1}.get(kill.at, SAVE_EVERY)
