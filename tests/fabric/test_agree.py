"""Ranks agree on where to stop and on when their data is over."""

import os
import signal
import threading
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore

from blixt.fabric import FabricError
from blixt.fabric.agree import DataLeft, StopAgreement, together
from blixt.fabric.cluster import LocalEnvironment
from blixt.fabric.launch import launch_function
from blixt.fabric.signals import SignalHandlers

from .test_launch_function import join


def uneven() -> list[Any]:
    """Each rank has another number of batches; the step of each is a collective, as in training."""
    rank = join()
    seen: list[int] = []
    for batch in together(iter(range(5 + 3 * rank)), DataLeft(2)):
        total = torch.tensor(batch)
        dist.all_reduce(total)
        seen.append(int(total))
    found: list[Any] = [None, None]
    dist.all_gather_object(found, seen)
    return found


def stop_together() -> list[Any]:
    """Rank 1 gets a signal while rank 0 is a few batches ahead or behind."""
    rank = join()
    store: Any = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    left_at: list[int] = []
    for run in range(3):
        stop = StopAgreement(rank, 2, store, run)
        stop.start(0)
        with SignalHandlers(stop.request):
            for batch in range(1, 10_000):
                if rank == 1 and batch == 5 + run:
                    os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(0.002 * (rank + 1))
                dist.barrier()
                if stop.due(batch):
                    break
        stop.close()
        left_at += [batch] if stop.requested == "SIGTERM" else []
    found: list[Any] = [None, None]
    dist.all_gather_object(found, left_at)
    return found


def test_ranks_with_unequal_data_end_after_the_same_batch() -> None:
    first, second = launch_function(2, uneven, (), start_method="fork")
    assert first == second == [0, 2, 4, 6, 8]


def test_all_ranks_leave_at_one_batch_however_the_signal_falls() -> None:
    first, second = launch_function(2, stop_together, (), start_method="fork")
    assert first == second
    assert len(first) == 3
    assert all(batch < 9_999 for batch in first)


def test_one_process_stops_at_once_and_needs_no_store() -> None:
    stop = StopAgreement(0, 1, None, 1)
    stop.start(3)
    assert not stop.due(4)
    stop.request("max_time")
    assert stop.due(5)
    stop.close()


def test_a_rank_that_does_not_answer_is_named() -> None:
    stop = StopAgreement(0, 3, HashStore(), 1, timeout_s=0.5)
    stop.start(0)
    stop.request("SIGTERM")
    deadline = time.monotonic() + 60
    while not stop._limit < float("inf"):  # the watcher has promised for this rank
        assert time.monotonic() < deadline
    with pytest.raises(FabricError, match=r"Rank 0 waited 0.5 s for rank 1, 2 to say where to stop"):
        stop.due(10)
    stop.close()


def test_who_is_asked_to_stop_when_another_has_left_already_runs_to_its_end_as_well() -> None:
    store = HashStore()
    mine, gone = (StopAgreement(rank, 2, store, 1, timeout_s=60) for rank in range(2))
    gone.start(0)
    mine.start(0)
    gone.close()
    mine.request("SIGTERM")
    assert mine._agreed.wait(60)
    assert not mine.due(1)
    assert not mine.due(10)
    mine.close()


def test_a_forked_copy_of_a_process_that_notes_signals_dies_of_sigterm() -> None:
    begun, begins = os.pipe()
    with SignalHandlers(lambda name: None):
        child = os.fork()
        if child == 0:
            os.write(begins, b"!")  # Python forgets what came before it was through with the fork
            while True:  # as a loader's worker that has not got to its own handler yet
                time.sleep(0.05)
        try:
            assert os.read(begun, 1) == b"!"
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        finally:
            os.close(begun)
            os.close(begins)


def test_a_handler_only_notes_the_signal_and_the_old_one_comes_back() -> None:
    class Site(LocalEnvironment):
        requeue_signal = signal.SIGUSR2

    asked: list[str] = []
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)]
    with SignalHandlers(asked.append, Site()):
        for number in (signal.SIGTERM, signal.SIGUSR2):
            os.kill(os.getpid(), number)
    assert asked == ["SIGTERM", "SIGUSR2"]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)] == before


def test_a_users_own_handler_for_the_requeue_signal_stays() -> None:
    class Site(LocalEnvironment):
        requeue_signal = signal.SIGUSR2

    own: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: own.append(number))
    try:
        asked: list[str] = []
        with SignalHandlers(asked.append, Site()):
            os.kill(os.getpid(), signal.SIGUSR2)
        deadline = time.monotonic() + 60
        while not own:
            assert time.monotonic() < deadline
        assert asked == []
    finally:
        signal.signal(signal.SIGUSR2, before)
