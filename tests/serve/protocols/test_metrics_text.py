"""`/metrics` as Prometheus reads it."""

import contextlib
import socket

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from blixt.serve import OpenAISpec, Server
from blixt.serve.testing import running, wait_until

from .apis import Big, Count, Locate, Slow, Talker


@pytest.fixture(scope="module")
def counted():
    """A fresh server, so that every number is known."""
    apis = [Locate(), Slow(), Big(), Count(), Talker(spec=OpenAISpec("talker"))]
    with running(Server(apis, accelerator="cpu", timeout_s=60)) as service:
        yield service


def families(service):
    answer = httpx.get(f"{service.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(service, name, **labels):
    """The sum of a sample over everything the labels leave open."""
    found = [
        sample.value
        for family in families(service).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found)


def test_every_family_has_a_type_a_help_and_no_sample_twice(counted):
    for family in families(counted).values():
        assert family.type in ("counter", "gauge", "histogram")
        assert family.documentation
        samples = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(samples) == len(set(samples))


def test_requests_are_counted_by_api_and_status(counted):
    before = value(counted, "blixt_serve_requests_total", api="/locate", status="200")
    for x in (1, 2, 3):
        httpx.post(f"{counted.url}/locate", json={"x": x})
    httpx.post(f"{counted.url}/locate", json={"x": "one"})
    httpx.post(f"{counted.url}/locate", content=b"{")
    httpx.get(f"{counted.url}/locate")
    assert value(counted, "blixt_serve_requests_total", api="/locate", status="200") == before + 3
    assert value(counted, "blixt_serve_requests_total", api="/locate", status="422") == 1
    assert value(counted, "blixt_serve_requests_total", api="/locate", status="400") == 1
    assert value(counted, "blixt_serve_requests_total", api="/locate", status="405") == 1


def test_histograms_are_cumulative_and_end_with_their_count(counted):
    httpx.post(f"{counted.url}/big", json=1)
    names = {name for name, family in families(counted).items() if family.type == "histogram"}
    assert {
        "blixt_serve_request_seconds",
        "blixt_serve_queue_seconds",
        "blixt_serve_first_piece_seconds",
        "blixt_serve_batch_size",
    } <= names
    for name in names:
        buckets: dict[str, list[tuple[float, float]]] = {}
        counts: dict[str, float] = {}
        for sample in families(counted)[name].samples:
            labels = dict(sample.labels)
            bound = labels.pop("le", None)
            key = str(sorted(labels.items()))
            if sample.name.endswith("_bucket"):
                buckets.setdefault(key, []).append((float(bound), sample.value))
            elif sample.name.endswith("_count"):
                counts[key] = sample.value
        for key, pairs in buckets.items():
            values = [count for _, count in sorted(pairs)]
            assert values == sorted(values)
            assert values[-1] == counts[key]


def test_streams_tell_their_pieces_and_first_piece(counted):
    httpx.post(f"{counted.url}/slow", json={})
    assert value(counted, "blixt_serve_stream_pieces_total", api="/slow") == 2
    assert value(counted, "blixt_serve_first_piece_seconds_count", api="/slow") == 1


def test_tokens_of_a_model_are_counted(counted):
    body = {"model": "talker", "messages": [{"role": "user", "content": "a b c"}]}
    for stream in (False, True):
        httpx.post(f"{counted.url}/v1/chat/completions", json={**body, "stream": stream}).raise_for_status()
    assert value(counted, "blixt_serve_tokens_total", api="/v1:talker", kind="prompt") == 6
    assert value(counted, "blixt_serve_tokens_total", api="/v1:talker", kind="completion") == 6


def test_the_gauge_of_requests_in_flight_comes_back_to_zero_whatever_happens(counted):
    httpx.post(f"{counted.url}/count", json={"n": 2, "fail_at": 1})
    with httpx.stream("POST", f"{counted.url}/slow", json={"between_s": 4}) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert value(counted, "blixt_serve_in_flight") == 1
        lines.close()
    with contextlib.closing(
        socket.create_connection(("127.0.0.1", int(counted.url.rpartition(":")[2])))
    ) as raw:
        raw.sendall(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 17\r\n\r\n" + b'{"before_s": 0.3}')
    wait_until(lambda: value(counted, "blixt_serve_in_flight") == 0, 60, "nothing in flight")


def test_workers_are_gauges(counted):
    assert value(counted, "blixt_serve_workers_ready") == value(counted, "blixt_serve_workers") == 5
