"""The pure decisions: how many replicas, which ranks, which environment."""

import doctest

import pytest

from blixt.cloud.controllers import autoscale, environment, world
from blixt.cloud.controllers.autoscale import Bounds, Demand, wanted
from blixt.cloud.hub import tail


@pytest.mark.parametrize("module", [autoscale, environment, world, tail])
def test_the_examples_in_the_docstrings_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("load", "replicas", "idle_s", "below_s", "expected"),
    [
        (0, 0, 1e9, 0, 0),  # nobody asks
        (1, 0, 0, 0, 1),  # the first request wakes it
        (20, 1, 0, 0, 3),  # up at once, by as many as it takes
        (999, 3, 0, 0, 4),  # never above the most
        (1, 3, 0, 5, 3),  # a short pause takes nothing down
        (1, 3, 0, 31, 1),  # a long one does
        (0, 3, 31, 31, 1),  # but the last one stays for the idle time
        (0, 1, 59, 59, 1),
        (0, 1, 60, 60, 0),  # and goes after it
        (0, 9, 0, 0, 4),  # more than allowed: down at once
    ],
)
def test_the_number_of_replicas(
    load: int, replicas: int, idle_s: float, below_s: float, expected: int
) -> None:
    bounds = Bounds(minimum=0, maximum=4, concurrency=8, idle_timeout_s=60)
    assert wanted(Demand(load, replicas, idle_s, below_s), bounds) == expected


def test_a_minimum_is_kept_whatever_happens() -> None:
    bounds = Bounds(minimum=2, maximum=4, concurrency=8, idle_timeout_s=60)
    assert wanted(Demand(0, 0, 1e9, 0), bounds) == 2
    assert wanted(Demand(0, 2, 1e9, 1e9), bounds) == 2


def test_ranks_are_numbered_node_by_node() -> None:
    nodes = environment.ranks(machines=2, processes=3)
    assert [(rank.rank, rank.local_rank, rank.node) for node in nodes for rank in node] == [
        (0, 0, 0),
        (1, 1, 0),
        (2, 2, 0),
        (3, 0, 1),
        (4, 1, 1),
        (5, 2, 1),
    ]
