"""Answers that are given again: to equal requests, for a while, and never errors."""

from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.serve import API, ConfigError, HTTPError, Server
from blixt.serve.hub_cache import ENTRY_BYTES, AnswerCache
from blixt.serve.request import Meta
from blixt.serve.testing import running
from blixt.serve.wire import Kind


class Counted(API):
    """Tells how often it was asked anything."""

    cache_s = 600.0
    calls = 0

    def predict(self, x: Any) -> Any:
        self.calls += 1
        if x == "bad":
            raise HTTPError(409, f"call {self.calls}")
        if x == "bytes":
            return b"call %d" % self.calls
        return {"call": self.calls}


class ByRequest(Counted):
    api_path = "/by-request"
    context_fields = ("request_id",)

    def predict(self, x: Any, context: Any) -> Any:
        return [context["request_id"], super().predict(x)]


@pytest.fixture(scope="module", params=[True, False], ids=["hot", "cold"])
def service(request):
    with running(Server([Counted(), ByRequest()], accelerator="cpu", hot_lane=request.param)) as service:
        yield service


def ask(service, value, path="/predict", **headers):
    answer = httpx.post(f"{service.url}{path}", json=value, headers=headers, timeout=60)
    return answer.status_code, answer.content


def test_an_equal_request_gets_the_same_answer_and_no_hook_is_called(service):
    first = ask(service, {"a": 1})
    before = service.metric("blixt_serve_cache_hits_total")
    assert [ask(service, {"a": 1}) for _ in range(5)] == [first] * 5
    assert service.metric("blixt_serve_cache_hits_total") == before + 5
    assert ask(service, {"a": 2}) != first
    large = "x" * 200_000  # a body in shared memory
    assert ask(service, large) == ask(service, large)
    assert ask(service, "bytes") == ask(service, "bytes")
    assert service.metric("blixt_serve_slab_bytes") == 0


def test_errors_are_made_anew_each_time(service):
    answers = [ask(service, "bad") for _ in range(3)]
    assert {status for status, _ in answers} == {409}
    assert len(set(answers)) == 3


def test_what_only_names_the_request_makes_no_difference_unless_hooks_see_it(service):
    assert ask(service, 7, **{"x-request-id": "a"}) == ask(service, 7, **{"x-request-id": "b"})
    by_request = [ask(service, 7, "/by-request", **{"x-request-id": name}) for name in "aba"]
    assert by_request[0] == by_request[2] != by_request[1]
    text = httpx.post(f"{service.url}/predict", content=b"7", headers={"content-type": "text/plain"})
    assert (text.status_code, text.content) != ask(service, 7)


class Taken:
    def __init__(self) -> None:
        self.got: list[tuple[int, bytes]] = []

    def deliver(self, kind: int, payload: bytes) -> None:
        self.got.append((kind, payload))


def answered(cache: AnswerCache, body: bytes, now: float, answer: bytes, kind: int = Kind.OK) -> bytes:
    """What a request gets at a time, from the cache or else this answer."""
    taken = Taken()
    found, sink = cache.look(body, None, taken, now)
    if found is not None:
        return found[1]
    sink.deliver(kind, answer)
    assert taken.got == [(kind, answer)]
    return answer


def test_an_answer_is_kept_for_so_long_and_only_if_it_is_whole():
    cache = AnswerCache(10.0, 10_000)
    assert answered(cache, b"q", 0.0, b"old") == b"old"
    assert answered(cache, b"q", 10.0, b"new") == b"old"
    assert answered(cache, b"q", 10.1, b"new") == b"new"
    assert answered(cache, b"q", 20.0, b"newer") == b"new"
    answered(cache, b"e", 0.0, b"error", Kind.ERROR)
    assert answered(cache, b"e", 1.0, b"fine") == b"fine"


@given(
    asked=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=60),
    room=st.integers(0, 4 * ENTRY_BYTES),
)
def test_answers_are_bounded_and_what_is_used_stays(asked, room):
    cache = AnswerCache(1e9, room)
    for number, size in asked:
        body = b"%d" % number
        answer = answered(cache, body, 0.0, body + bytes(size))
        assert answer.startswith(body)
        assert cache.used_bytes <= room
        if ENTRY_BYTES + len(answer) <= room:
            assert answered(cache, body, 0.0, b"another") == answer


@given(first=st.binary(max_size=20), second=st.binary(max_size=20), kind=st.sampled_from(["", "text/plain"]))
def test_different_requests_never_share_an_answer(first, second, kind):
    cache, sink = AnswerCache(1.0, 10_000), Taken()
    meta = msgspec.json.encode(Meta(content_type=kind)) if kind else None
    _, keeper = cache.look(first, None, sink, 0.0)
    keeper.deliver(Kind.OK, b"answer")
    found, _ = cache.look(second, meta, sink, 0.0)
    assert (found is not None) == (first == second and not kind)


def test_it_does_not_go_with_streams():
    with pytest.raises(ConfigError, match="cache_s keeps whole answers"):
        Server(Counted(stream=True), accelerator="cpu")
    with pytest.raises(ConfigError, match="cache_s=-1"):
        Server(Counted(cache_s=-1), accelerator="cpu")
