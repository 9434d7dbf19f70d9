"""The load generator against a real server."""

import pytest
import uvloop

from blixt.serve.bench import Target, latency_curve, run_round, summarise
from blixt.serve.bench.cpu import tree_cpu_s
from blixt.serve.errors import ConfigError

ECHO = b'{"do": "echo", "input": 1}'


def load(target, concurrency=4, seconds=0.3, rate=None):
    return uvloop.run(run_round(target, concurrency, seconds, rate))


def test_a_closed_loop_counts_what_the_server_counts(service):
    before = service.metric("blixt_serve_requests_total", api="/predict")
    seen = load(Target(f"{service.url}/predict", ECHO))
    counted = service.metric("blixt_serve_requests_total", api="/predict") - before
    assert seen.statuses == {200: counted}
    assert counted > 0
    assert len(seen.latencies) == counted
    assert seen.latencies == sorted(seen.latencies)


def test_an_open_loop_sends_so_many_a_second(service):
    seen = load(Target(f"{service.url}/predict", ECHO), concurrency=16, seconds=0.5, rate=100)
    assert seen.statuses == {200: 50}


def test_latency_of_an_open_loop_counts_the_wait_for_a_connection(service):
    # One connection and answers of 100 ms: the tenth of ten requests that are due at once waits for nine.
    body = b'{"n": 1, "pause_s": 0.1}'
    seen = load(Target(f"{service.url}/ticks", body), concurrency=1, seconds=0.01, rate=1000)
    assert seen.statuses == {200: 10}
    assert seen.latencies[-1] > 9 * 0.1 > seen.latencies[0]


def test_errors_are_counted_by_status(service):
    seen = load(Target(f"{service.url}/predict", b'{"do": "teapot"}'))
    assert set(seen.statuses) == {418}
    assert seen.latencies == []
    assert summarise(seen).failed == sum(seen.statuses.values())


def test_pieces_of_streams_are_counted(service):
    seen = load(Target(f"{service.url}/ticks", b'{"n": 5}'))
    assert seen.pieces == 5 * len(seen.latencies) > 0
    line = summarise(seen)
    assert line.first_p50_ms is not None
    assert line.first_p50_ms <= line.p50_ms


def test_a_server_that_closes_each_connection_is_still_loaded(service):
    seen = load(Target(f"{service.url}/predict", ECHO, {"connection": "close"}), seconds=1.5)
    assert set(seen.statuses) == {200}
    assert seen.statuses[200] > 5


def test_the_cpu_time_of_a_process_tree_grows_with_its_work(service):
    before = tree_cpu_s(service.process.pid)
    seen = load(Target(f"{service.url}/predict", ECHO), seconds=1.0)
    seen.cpu_seconds = tree_cpu_s(service.process.pid) - before
    assert summarise(seen).cpu_us_per_request > 0
    assert tree_cpu_s(2**22 + 1) is None


@pytest.mark.parametrize("url", ["localhost", "ftp://x/y", "http:///x"])
def test_a_wrong_address_is_refused(url):
    with pytest.raises(ConfigError, match="is not an address"):
        Target(url)


def test_the_curve_shows_each_series_in_its_range():
    drawn = latency_curve([("1 client", [0.001] * 100), ("8 clients", [0.01] * 99 + [0.1])])
    lines = drawn.splitlines()
    assert lines[0].startswith("      100 ms")
    assert lines[0].count("x") == 2  # p99.9 and p100 of a hundred values
    assert lines[-1].split() == ["o", "1", "client", "x", "8", "clients"]
    assert sum(line.count("o") for line in lines[:-3]) == 11
    assert latency_curve([("nothing", [])]) == ""
