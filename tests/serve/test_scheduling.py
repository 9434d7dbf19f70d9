"""What a client sees of priorities, costs and workers counted by route."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from blixt.serve import API, Server
from blixt.serve.testing import running, wait_until


class Ordered(API):
    """Answers with its turn; a request may name a file to wait for."""

    api_path = "/ordered"

    def setup(self, device):
        self.turn = 0

    def predict(self, request: dict[str, str]) -> int:
        while "gate" in request and not os.path.exists(request["gate"]):
            time.sleep(0.01)
        self.turn += 1
        return self.turn


class Dear(API):
    """Answers with the size of its batch; a text costs its length."""

    api_path = "/dear"

    def cost(self, request):
        return len(request.json())

    def predict(self, texts: list[str]) -> list[int]:
        for text in texts:
            while text.startswith("/") and not os.path.exists(text):
                time.sleep(0.01)
        return [len(texts)] * len(texts)


@pytest.fixture(scope="module")
def service():
    apis = [Ordered(), Dear(max_batch_size=8, max_cost=10), Ordered(api_path="/two")]
    with running(Server(apis, accelerator="cpu", workers_per_device={"/two": 2}, timeout_s=300)) as service:
        yield service


def asking(service, pool, path, *asked):
    """Ask one after the other; each is in before the next. Gives futures of answers."""
    futures = []
    for body, headers in asked:
        before = service.metric("blixt_serve_in_flight", api=path)
        url = f"{service.url}{path}"
        futures.append(pool.submit(httpx.post, url, json=body, headers=headers, timeout=300))
        wait_until(
            lambda count=before + 1: service.metric("blixt_serve_in_flight", api=path) == count, 60, path
        )
    return futures


def test_what_waits_goes_by_the_priority_that_its_client_names(service, tmp_path):
    gate = tmp_path / "gate"
    names = ["first", "prefetched", "low", "usual", "high"]
    headers = [{}, {}, {"x-priority": "-5"}, {}, {"x-priority": "5"}]
    with ThreadPoolExecutor(5) as pool:
        bodies = [{"gate": str(gate)}, {}, {}, {}, {}]
        futures = asking(service, pool, "/ordered", *zip(bodies, headers, strict=True))
        gate.touch()
        turns = {name: future.result().json() for name, future in zip(names, futures, strict=True)}
    assert sorted(names, key=turns.__getitem__) == ["first", "prefetched", "high", "usual", "low"]


def test_no_batch_costs_more_than_its_bound(service, tmp_path):
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(7) as pool:
        asked = [(str(gate), {}), *[("four", {})] * 6]
        futures = asking(service, pool, "/dear", *asked)
        gate.touch()
        sizes = [future.result().json() for future in futures]
    assert sizes == [1, 2, 2, 2, 2, 2, 2]


def test_workers_are_counted_by_route(service):
    apis = httpx.get(f"{service.url}/info").json()["apis"]
    assert {api["path"]: len(api["devices"]) for api in apis} == {"/ordered": 1, "/dear": 1, "/two": 2}
