"""The limit that learns: pure arithmetic, a queue in virtual time, and a server."""

import asyncio
import heapq
import threading
from contextlib import suppress

import httpx
import pytest

from blixt.serve import API, ConfigError, Limits, Server
from blixt.serve.hub_limit import AdaptiveLimit, next_limit
from blixt.serve.testing import running, wait_until


@pytest.mark.parametrize(
    ("limit", "allowed_s", "took_s", "was_full", "expected"),
    [
        (16, 0.3, 0.1, True, 18),  # well, and it held back: more, by half its square root
        (16, 0.3, 0.1, False, 16),  # nobody wanted more
        (16, 0.3, 0.4, True, 12),  # too slow: less, in proportion
        (16, 0.3, 9.0, True, 8),  # but by half at most
        (1, 0.3, 0.1, True, 2),
    ],
)
def test_a_limit_shrinks_in_proportion_and_grows_by_its_root(limit, allowed_s, took_s, was_full, expected):
    assert next_limit(limit, allowed_s, took_s, was_full) == pytest.approx(expected)


class Simulation:
    """Workers that take so long for each request, one after the other, behind a limit; in virtual time."""

    def __init__(self, workers, service_s, limit):
        self.workers = [0.0] * workers  # when each is idle again
        self.service_s = service_s
        self.limit = limit
        self.ends = []  # (when, admitted, sent)
        self.latencies = []
        self.refused = 0

    def arrive(self, now):
        while self.ends and self.ends[0][0] <= now:
            when, admitted, sent = heapq.heappop(self.ends)
            self.latencies.append((when, when - admitted))
            self.limit.observe(when, when - admitted, when - sent)
        if not self.limit.admits(len(self.ends), len(self.workers)):
            self.refused += 1
            return
        sent = max(now, heapq.heappop(self.workers))
        heapq.heappush(self.workers, sent + self.service_s(sent))
        heapq.heappush(self.ends, (sent + self.service_s(sent), now, sent))

    def run(self, from_s, to_s, per_s):
        """Latencies, and answers a second, of the last half of this time."""
        for index in range(int((to_s - from_s) * per_s)):
            self.arrive(from_s + index / per_s)
        half = (from_s + to_s) / 2
        late = [latency for when, latency in self.latencies if when > half]
        return sum(late) / len(late), len(late) / (to_s - half)


@pytest.mark.parametrize(("workers", "service_s"), [(1, 0.05), (4, 0.05), (2, 0.002), (8, 1.0)])
def test_under_three_times_the_load_answers_keep_their_time_and_workers_stay_busy(workers, service_s):
    limit = AdaptiveLimit(tolerance=3.0, most=1024)
    capacity = workers / service_s
    simulation = Simulation(workers, lambda now: service_s, limit)
    latency_s, per_s = simulation.run(0, 1500 * service_s, 3 * capacity)
    assert latency_s < 3.5 * service_s
    assert per_s > 0.95 * capacity
    assert simulation.refused > 1000 * workers


def test_nobody_is_refused_while_the_load_is_light():
    limit = AdaptiveLimit(tolerance=3.0, most=1024)
    simulation = Simulation(4, lambda now: 0.05, limit)
    simulation.run(0, 200, 40)
    assert simulation.refused == 0


def test_a_model_that_grows_slower_is_learned_anew_under_a_steady_load():
    limit = AdaptiveLimit(tolerance=3.0, most=1024)
    simulation = Simulation(1, lambda now: 0.05 if now < 100 else 0.2, limit)
    simulation.run(0, 100, 60)
    assert limit.usual_s == pytest.approx(0.05)
    _, per_s = simulation.run(100, 400, 15)
    assert limit.usual_s == pytest.approx(0.2)
    assert per_s > 0.9 * 5


def test_a_batchs_wait_for_company_is_no_sign_of_load():
    limit = AdaptiveLimit(tolerance=2.0, most=1024, extra_s=0.5)
    for index in range(200):
        limit.observe(index, 0.55, 0.05)
    assert limit.value == 16


class Gate(API):
    """Answers nobody who waits."""

    adaptive_limit = 2.0
    max_streams = 1000

    async def predict(self, x: str) -> str:
        if x == "wait":
            await asyncio.get_running_loop().create_future()
        return x


def test_a_server_refuses_beyond_its_limit_at_once_and_tells_it():
    def post(x):
        return httpx.post(f"{service.url}/predict", json=x, timeout=60)

    def wait():
        with suppress(httpx.TransportError):  # the server ends before it answers
            post("wait")

    limits = Limits(drain_s=0.2, stop_s=0.2)
    with running(Server(Gate(), accelerator="cpu", limits=limits)) as service:
        assert service.metric("blixt_serve_concurrency_limit", api="/predict") == 16
        threads = [threading.Thread(target=wait) for _ in range(16)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: service.metric("blixt_serve_in_flight") == 16, 60, "sixteen requests")
            refusal = post("more")
            assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "1")
            assert "16 requests under way" in refusal.json()["detail"]
            assert service.metric("blixt_serve_requests_limited_total", api="/predict") == 1
        finally:
            service.terminate()
            for thread in threads:
                thread.join(60)


@pytest.mark.parametrize("tolerance", [1.0, 0.5, -1, True, "2"])
def test_a_limit_that_would_let_nobody_wait_is_refused(tolerance):
    class Wrong(Gate):
        adaptive_limit = tolerance

    with pytest.raises(ConfigError, match="adaptive_limit"):
        Server(Wrong(), accelerator="cpu")
