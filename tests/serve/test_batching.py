import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.serve.batching import MAX_CREDIT, Policy, batch_now, credit

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


@given(st.floats(0, 10), st.integers(1, 64))
def test_credit_is_bounded_and_at_least_one_request_ahead(service_s, streams):
    assert 2 <= credit(Policy(), service_s) <= MAX_CREDIT
    assert credit(Policy(slots=streams), service_s) == streams


def test_a_fast_worker_gets_more_credit_than_a_slow_one():
    assert credit(Policy(), 0.00002) == 100
    assert credit(Policy(), 0.05) == 2
