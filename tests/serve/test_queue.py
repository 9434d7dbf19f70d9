"""The hub's queue, against a plain list."""

from hypothesis import given
from hypothesis import strategies as st

from blixt.serve.hub_queue import Queue
from blixt.serve.request import Request

steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(-10, 10)),
        st.tuples(st.just("first"), st.integers(-10, 10)),
        st.tuples(st.just("pop"), st.none()),
        st.tuples(st.just("discard"), st.integers(0, 30)),
    ),
    max_size=60,
)


@given(steps)
def test_the_queue_does_what_a_sorted_list_would(steps):
    queue, model, everyone = Queue(), [], []
    for number, (verb, value) in enumerate(steps):
        if verb in ("push", "first"):
            request = Request(number + 1, b"x" * (number % 5), None, float(number))
            request.priority = value
            everyone.append(request)
            queue.push(request, first=verb == "first")
            equals = [i for i, other in enumerate(model) if other.priority == value]
            higher = sum(other.priority > value for other in model)
            place = higher if verb == "first" or not equals else equals[-1] + 1
            model.insert(place, request)
        elif verb == "pop" and model:
            assert queue.pop() is model.pop(0)
        elif verb == "discard" and value < len(everyone):
            queue.discard(everyone[value])
            model = [other for other in model if other is not everyone[value]]
        assert list(queue) == model
        assert (len(queue), queue.size_bytes) == (len(model), sum(len(r.body) for r in model))
        if model:
            assert queue.oldest_at() == min(_first_of_each_level(model))


def _first_of_each_level(model):
    firsts = {}
    for request in model:
        firsts.setdefault(request.priority, request.admitted_at)
    return firsts.values()
