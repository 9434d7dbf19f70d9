import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.serve.batching import MAX_CREDIT, Policy, affordable, batch_now, credit

WAIT = Policy(max_batch_size=4, batch_timeout_s=0.1)
NOW = Policy(max_batch_size=4, batch_timeout_s=0.0)


@pytest.mark.parametrize(
    ("policy", "waiting", "oldest_s", "in_flight", "size"),
    [
        (NOW, 0, 0.0, 0, 0),  # nothing waits
        (NOW, 3, 0.0, 0, 3),  # an idle worker takes what there is
        (NOW, 3, 9.0, 1, 0),  # a busy one lets a partial batch grow
        (NOW, 9, 0.0, 0, 4),  # never more than a batch
        (WAIT, 3, 0.05, 0, 0),  # the oldest may wait for company
        (WAIT, 3, 0.1, 0, 3),  # ... until its time is over
        (WAIT, 4, 0.0, 0, 4),  # a full batch never waits
        (WAIT, 4, 0.0, 4, 4),  # ... not even for the running one: prefetch
        (WAIT, 4, 0.0, 8, 0),  # one batch ahead is enough
    ],
)
def test_batch_policy(policy, waiting, oldest_s, in_flight, size):
    assert batch_now(policy, waiting, oldest_s, in_flight) == size


SIDE_BY_SIDE = Policy(max_batch_size=4, slots=2)


@pytest.mark.parametrize(
    ("waiting", "in_flight", "size"),
    [(1, 0, 1), (1, 4, 1), (4, 4, 4), (4, 5, 0), (2, 7, 0), (9, 0, 4)],
)
def test_a_worker_that_runs_batches_side_by_side_takes_them_while_it_has_room(waiting, in_flight, size):
    assert batch_now(SIDE_BY_SIDE, waiting, 0.0, in_flight) == size


COSTLY = Policy(max_batch_size=3, max_cost=10)


@pytest.mark.parametrize(
    ("costs", "count", "full"),
    [
        ([], 0, False),
        ([4, 4], 2, False),
        ([4, 4, 4], 2, True),  # the third would be too much
        ([6, 4], 2, True),  # exactly full
        ([50, 1], 1, True),  # dearer than the bound: alone
        ([1, 50], 1, True),
        ([1, 1, 1, 1], 3, True),  # the size bounds too
    ],
)
def test_a_batch_takes_what_it_can_afford(costs, count, full):
    assert affordable(COSTLY, costs) == (count, full)


@given(st.lists(st.floats(0, 20), max_size=10))
def test_a_batch_never_costs_more_than_its_bound_unless_it_is_one_request(costs):
    count, _ = affordable(COSTLY, costs)
    assert count <= 3
    assert count <= 1 or sum(costs[:count]) <= 10 + 1e-9
    assert count >= 1 or not costs


@given(st.floats(0, 10), st.integers(1, 64))
def test_credit_is_bounded(service_s, streams):
    assert 1 <= credit(Policy(), service_s) <= MAX_CREDIT
    assert credit(Policy(slots=streams), service_s) == streams


def test_a_fast_worker_gets_more_credit_than_a_slow_one():
    assert credit(Policy(), 0.00002) == 100
    assert credit(Policy(), 0.005) == 2


def test_a_slow_worker_holds_only_what_it_works_on():
    assert credit(Policy(), 0.05) == 1
    assert credit(Policy(), 0.0) == 2, "before anything is known one is sent ahead"
