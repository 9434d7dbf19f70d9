"""The scheduler over real block pools; tokens stand for keys and values, see `scheduling`."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.llm.engine.scheduling import CHUNKED, FULL, SLIDING, World, make_request

from blixt.llm.engine.blocks_tables import Group
from blixt.llm.engine.request import Request, State
from blixt.llm.errors import EngineFull

SEEDS = st.integers(0, 2**32)


def drive(world: World, seed: int, count: int, *, cancels: bool = False) -> list[Request]:
    """Run requests of a small vocabulary, many with equal beginnings, arriving at random times."""
    draw = random.Random(seed)
    stems = [[draw.randrange(5) for _ in range(draw.randrange(30))] for _ in range(3)]
    requests: list[Request] = []
    for number in range(count):
        tokens = draw.choice(stems) + [draw.randrange(5) for _ in range(draw.randrange(1, 9))]
        order = (draw.randrange(2), number)
        requests.append(
            make_request(str(number), tokens, draw.randrange(1, 9), order, draw.choice(["", "", "tenant"]))
        )
    arriving = list(requests)
    for _ in range(5000):
        while arriving and draw.random() < 0.3:
            world.scheduler.add(arriving.pop(0))
        if cancels and draw.random() < 0.2:
            live = [r for r in requests if r.state is State.RUNNING or (r not in arriving and r.tables)]
            if live:
                world.scheduler.remove(draw.choice(live))
        plan = world.step(draw)
        if not arriving and not plan:
            break
    return requests


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, groups=st.sampled_from([(FULL,), (FULL, SLIDING), (SLIDING,), (FULL, SLIDING, CHUNKED)]))
def test_every_request_reads_its_own_past_in_every_step_and_ends(
    seed: int, groups: tuple[Group, ...]
) -> None:
    draw = random.Random(seed)
    world = World(
        groups,
        count=draw.randrange(12, 40),
        size=4,
        batch=draw.choice([1, 3, 8]),
        step=draw.choice([3, 8, 64]),
    )
    requests = drive(world, seed, 12)
    assert all(r.state is State.FINISHED and r.left == 0 for r in requests)
    assert [pool.used for pool in world.blocks.pools] == [0] * len(groups)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_cancelled_requests_leave_no_block_behind(seed: int) -> None:
    world = World((FULL, SLIDING), count=14, size=4, batch=4, step=9)
    requests = drive(world, seed, 12, cancels=True)
    assert all(r.state is State.FINISHED for r in requests)
    assert [pool.used for pool in world.blocks.pools] == [0, 0]


def test_a_shared_prefix_is_computed_once_also_within_one_step() -> None:
    world = World((FULL,), count=40, size=4, batch=4, step=64)
    for number in range(4):
        world.scheduler.add(make_request(str(number), [1] * 16 + [number], 2, (0, number)))
    plan = world.step(random.Random(0))
    assert [part.count for part in plan] == [17, 1, 1, 1]


def test_other_tenants_compute_their_own() -> None:
    world = World((FULL,), count=40, size=4, batch=4, step=64)
    for number, salt in enumerate(["a", "b"]):
        world.scheduler.add(make_request(salt, [1] * 17, 2, (0, number), salt))
    assert [part.count for part in world.step(random.Random(0))] == [17, 17]


def test_decoding_goes_before_prompts_and_shares_the_step_with_a_chunk() -> None:
    world = World((FULL,), count=40, size=4, batch=4, step=8)
    world.scheduler.add(make_request("a", [1, 2], 9, (0, 0)))
    world.step(random.Random(0))
    world.scheduler.add(make_request("b", list(range(5)) * 4, 9, (0, 1)))
    plan = world.step(random.Random(0))
    assert [(part.request.uid, part.count) for part in plan] == [("a", 1), ("b", 7)]


def test_an_urgent_request_takes_the_place_of_a_less_urgent_one() -> None:
    world = World((FULL,), count=40, size=4, batch=1, step=8)
    world.scheduler.add(make_request("slow", [1, 2], 30, (5, 0)))
    world.step(random.Random(0))
    world.scheduler.add(make_request("urgent", [3, 4], 1, (0, 1)))
    assert [part.request.uid for part in world.step(random.Random(0))] == ["urgent"]
    assert [part.request.uid for part in world.step(random.Random(0))] == ["slow"]


def test_who_came_last_gives_way_when_blocks_run_out() -> None:
    world = World((FULL,), count=6, size=4, batch=4, step=64)
    first, second = (make_request(str(n), [n] * 8, 12, (0, n)) for n in range(2))
    world.scheduler.add(first)
    world.scheduler.add(second)
    while first.state is not State.FINISHED:
        world.step(random.Random(0))
    assert (first.preemptions, second.preemptions > 0) == (0, True)


def test_a_window_keeps_only_the_blocks_in_sight() -> None:
    world = World((FULL, SLIDING), count=60, size=4, batch=1, step=16)
    request = make_request("a", [1] * 100, 20, (0, 0))
    world.scheduler.add(request)
    most = 0
    while request.state is not State.FINISHED:
        world.step(random.Random(0))
        most = max(most, world.blocks.pools[1].used)
    assert most <= (9 + 16) // 4 + 2


def test_the_queue_has_a_bound() -> None:
    world = World((FULL,), count=6, size=4, batch=1, step=8)
    world.scheduler.max_waiting = 2
    for number in range(2):
        world.scheduler.add(make_request(str(number), [1], 1, (0, number)))
    with pytest.raises(EngineFull, match="2 requests wait"):
        world.scheduler.check_room(1)


def test_cancelled_requests_do_not_pile_up_in_the_queue() -> None:
    world = World((FULL,), count=6, size=4, batch=1, step=8)
    for number in range(500):
        request = make_request(str(number), [1], 1, (9, number))
        world.scheduler.add(request)
        world.scheduler.remove(request)
    assert world.scheduler.waiting == 0
    assert len(world.scheduler._queue) <= 64
