"""Functions in new processes: answers and errors come back, nobody stays behind, and who failed is named."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from blixt.fabric import ConfigError, LaunchError
from blixt.fabric.cluster import detect_world
from blixt.fabric.launch import launch_function
from blixt.fabric.pulse import start_pulse
from blixt.fabric.pulse_beats import Beat, find_behind


class TooColdError(Exception):
    """Raised in a rank."""


def join(timeout_s: float = 60) -> int:
    """Meet the other ranks as a strategy does; returns this one's rank."""
    torch.set_num_threads(1)
    world = detect_world()
    assert world is not None
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    timeout = timedelta(seconds=timeout_s)
    dist.init_process_group(
        "gloo", store=store, rank=world.rank, world_size=world.world_size, timeout=timeout
    )
    start_pulse(world, store.clone())
    return world.rank


def meet(folder: Path | None, mode: str) -> dict[str, Any]:
    rank = join()
    if folder is not None:
        (folder / f"{rank}.pid").write_text(str(os.getpid()))
    total = torch.tensor(float(rank + 1))
    dist.all_reduce(total)
    impatient = dist.new_group(timeout=timedelta(seconds=3))  # only now, when all are there
    if mode == "raise" and rank == 1:
        raise TooColdError("four degrees")
    if mode == "kill" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "hang" and rank == 1:
        _a_place_to_hang_in()
    if mode != "fine":
        dist.all_reduce(total, group=impatient)
    dist.destroy_process_group()
    return {"total": total, "rank": rank, "words": ["a", "b"]}


def _a_place_to_hang_in() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pause()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_rank_zeros_answer_comes_back_from_new_processes(method: str) -> None:
    answer = launch_function(2, meet, (None, "fine"), start_method=method)
    assert answer == {"total": torch.tensor(3.0), "rank": 0, "words": ["a", "b"]}


def test_a_forked_function_may_be_a_closure() -> None:
    seen = torch.ones(3)
    assert launch_function(2, lambda: float(seen.sum()), (), start_method="fork") == 3.0


def test_an_exception_comes_back_with_its_traceback_and_as_the_cause(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="Rank 1 failed") as raised:
        launch_function(2, meet, (tmp_path, "raise"), start_method="fork")
    assert "four degrees" in str(raised.value)
    assert "in meet" in str(raised.value)
    assert isinstance(raised.value.__cause__, TooColdError)
    assert all(gone(int(path.read_text())) for path in tmp_path.glob("*.pid"))


def test_a_killed_rank_is_named_and_the_others_are_stopped(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"rank 1 \(process \d+\) was killed by SIGKILL"):
        launch_function(2, meet, (tmp_path, "kill"), start_method="fork")
    assert all(gone(int(path.read_text())) for path in tmp_path.glob("*.pid"))


def test_a_rank_that_hangs_is_named_within_the_timeout_and_shows_where(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LaunchError, match="rank 1 hangs: alive, but it took part in") as raised:
        launch_function(2, meet, (tmp_path, "hang"), start_method="fork")
    assert "Rank 0 failed" in str(raised.value)
    assert all(gone(int(path.read_text())) for path in tmp_path.glob("*.pid"))
    said = capfd.readouterr().err
    assert "the other ranks wait for rank 1" in said
    assert "_a_place_to_hang_in" in said


def meet_in_pairs(folder: Path) -> None:
    """Rank 3 does not come to its pair's collective, so rank 2 not to everybody's, where 0 and 1 wait."""
    rank = join()
    impatient = dist.new_group(timeout=timedelta(seconds=4))
    pairs = [dist.new_group(pair, timeout=timedelta(seconds=60)) for pair in ([0, 1], [2, 3])]
    total = torch.ones(1)
    dist.all_reduce(total)
    if rank == 3:
        _a_place_to_hang_in()
    dist.all_reduce(total, group=pairs[rank // 2])
    dist.all_reduce(total, group=impatient)


def test_a_rank_that_hangs_before_a_collective_of_some_is_named_by_those_who_wait_for_the_others(
    tmp_path: Path,
) -> None:
    with pytest.raises(LaunchError, match=r"rank 3 hangs: alive, .* of ranks 2, 3 and rank 2 in"):
        launch_function(4, meet_in_pairs, (tmp_path,), start_method="fork")


@pytest.mark.parametrize(
    ("taken", "blamed"),
    [
        ([{"0,1,2": 5}, {"0,1,2": 4}, {"0,1,2": 5}], (1,)),
        ([{"0,1,2": 5}, {"0,1,2": 4}, {"0,1,2": 4}], (1, 2)),
        ([{"0,1,2": 5}, {"0,1,2": 4, "1,2": 3}, {"0,1,2": 4, "1,2": 2}], (2,)),
        ([{"0,1,2": 5, "0,1": 3}, {"0,1,2": 5, "0,1": 2}, {"0,1,2": 5}], (1,)),
        ([{"0,1,2": 5, "0,1": 2, "0,1+": 3}, {"0,1,2": 5, "0,1": 2, "0,1+": 1}, {"0,1,2": 5}], (1,)),
        ([{"0,1,2": 5}] * 3, None),
        ([{}] * 3, None),
    ],
)
def test_who_waits_for_another_is_not_to_blame(taken: list[dict[str, int]], blamed: Any) -> None:
    beats = {rank: Beat.of(Beat(1, each).text()) for rank, each in enumerate(taken)}
    behind = find_behind(beats, 0, 3)
    assert (None if behind is None else behind.ranks) == blamed


def leave_on_sigterm(folder: Path) -> None:
    rank = join()
    signal.signal(signal.SIGTERM, lambda *_: exit(143))
    (folder / f"{rank}.ready").touch()
    signal.pause()


def test_sigterm_to_the_launcher_reaches_the_ranks_and_it_leaves_as_they_did(tmp_path: Path) -> None:
    launcher = os.fork()
    if launcher == 0:
        try:
            launch_function(2, leave_on_sigterm, (tmp_path,), start_method="fork")
        except SystemExit as left:
            os._exit(int(str(left.code)))
        os._exit(1)
    wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == 2)
    os.kill(launcher, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(launcher, 0)[1]) == 143


def test_ranks_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    launcher = os.fork()
    if launcher == 0:
        launch_function(2, wait_for_ever, (tmp_path,), start_method="fork")
        os._exit(1)
    wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    wait_until(lambda: all(gone(pid) for pid in pids))


def wait_for_ever(folder: Path) -> None:
    pid = os.getpid()
    (folder / f"{pid}.part").write_text(str(pid))
    (folder / f"{pid}.part").rename(folder / f"{pid}.pid")
    signal.pause()


def wait_until(condition: Any, deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_unknown_way_to_start_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no such way to start a process"):
        launch_function(2, print, (), start_method="clone")
