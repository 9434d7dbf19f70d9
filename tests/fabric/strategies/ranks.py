"""Real gloo ranks for checks that are many and short: one launch runs all of them.

A check is a function of (rank, folder) in a test module whose name starts with `check_`. What it returns on
each rank, or the traceback of its failure, comes back by its name.
"""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

from blixt.fabric.cluster import World
from blixt.fabric.launch import rank_environment
from blixt.fabric.strategies import Strategy

TIMEOUT_S = 120
"""Of collectives: a rank whose check failed leaves the others waiting this long."""

Check = Callable[[int, Path], Any]


class Reports(dict[str, list[Any]]):
    """What each check returned, by its name and then by rank."""

    def of(self, check: Check) -> list[Any]:
        """The answers of all ranks; raises with the tracebacks of those that failed."""
        answers = self[check.__name__]
        failed = [answer for answer in answers if isinstance(answer, Failure)]
        assert not failed, "\n".join(failure.text for failure in failed)
        return answers


class Failure:
    """A check that raised."""

    def __init__(self, text: str) -> None:
        self.text = text


def run_checks(world_size: int, checks: list[Check], folder: Path) -> Reports:
    """Run `checks` in order in `world_size` processes that stay for all of them."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, world_size, is_master=True, wait_for_workers=False)
    start_processes(
        _rank, args=(world_size, store.port, checks, folder), nprocs=world_size, start_method="spawn"
    )
    answers = [torch.load(folder / f"answers-{rank}.pt", weights_only=False) for rank in range(world_size)]
    return Reports({check.__name__: [answer[check.__name__] for answer in answers] for check in checks})


def _rank(rank: int, world_size: int, port: int, checks: list[Check], folder: Path) -> None:
    os.environ.update(rank_environment(rank, world_size, port))
    torch.set_num_threads(1)
    answers: dict[str, Any] = {}
    for check in checks:
        torch.manual_seed(0)
        own = folder / check.__name__
        own.mkdir(exist_ok=True)
        try:
            answers[check.__name__] = check(rank, own)
        except BaseException:
            answers[check.__name__] = Failure(f"rank {rank}:\n{traceback.format_exc()}")
    torch.save(answers, folder / f"answers-{rank}.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def joined(strategy: Strategy, **configured: Any) -> Strategy:
    """The strategy, connected with the ranks of this launch."""
    size = int(os.environ["WORLD_SIZE"])
    rank = int(os.environ["RANK"])
    strategy.timeout_s = TIMEOUT_S
    strategy.configure(**configured)
    strategy.connect(World(rank=rank, local_rank=rank, world_size=size, local_world_size=size), "gloo")
    return strategy
