"""What surrounds requests: bad ends, replacement, slow setups, warm-up, health, callbacks, loggers."""

import asyncio
import os
import re
import time

import httpx
import pytest

from blixt.serve import Limits, Server
from blixt.serve.testing import running, wait_until

from .apis import Sleeper, Ticker
from .worker_apis import (
    AsyncHealthy,
    Doom,
    Doubler,
    FailsOnce,
    Faulty,
    FileLogger,
    Healthy,
    Logs,
    Notes,
    SlowSetup,
    Warm,
)

pytestmark = pytest.mark.anyio


def post(service, body, path="/predict", **options):
    return httpx.post(f"{service.url}{path}", json=body, timeout=60, **options)


def answers(service):
    try:
        return post(service, {}).status_code == 200
    except httpx.TransportError:
        return False


def status(service, path):
    return httpx.get(f"{service.url}{path}", timeout=60).status_code


# -- bad ends -----------------------------


@pytest.fixture(scope="module")
def doom():
    limits = Limits(kill_grace_s=0.3, backoff_s=0.01)
    with running(Server(Doom(), accelerator="cpu", timeout_s=8, limits=limits)) as service:
        yield service


def test_a_client_in_a_hurry_does_not_cost_the_worker_its_life():
    with running(Server(Sleeper(), accelerator="cpu", limits=Limits(kill_grace_s=0.05))) as service:
        assert answers(service)
        before = service.worker_pids()
        assert post(service, {"s": 1.5}, headers={"x-timeout-s": "0.2"}).status_code == 504
        assert answers(service)  # after that one has ended
        assert service.worker_pids() == before


@pytest.mark.parametrize(("end", "wanted"), [("exit", 503), ("segfault", 503), ("hang", 504)])
def test_a_predict_that_ends_its_worker_fails_alone_and_the_next_is_answered(doom, end, wanted):
    before = doom.worker_pids()
    assert post(doom, {"do": end}).status_code == wanted
    wait_until(lambda: doom.worker_pids() not in (before, []) and answers(doom), 60, "a new worker")


def test_what_was_begun_is_done_once(doom, tmp_path):
    file = tmp_path / "count"
    assert post(doom, {"do": "count", "file": str(file)}).status_code == 503
    wait_until(lambda: answers(doom), 60, "a new worker")
    assert file.read_text() == "x"


def test_what_was_begun_is_done_again_if_asked(tmp_path):
    api = Doom(retry_on_crash=True)
    with running(Server(api, accelerator="cpu", limits=Limits(backoff_s=0.01))) as service:
        answer = post(service, {"do": "once", "marker": str(tmp_path / "marker")})
        assert answer.status_code == 200
        poison = tmp_path / "poison"
        assert post(service, {"do": "count", "file": str(poison)}).status_code == 503
        assert poison.read_text() == "xx", "tried once more, then given up"


# -- replacement -----------------------------


async def test_a_worker_that_has_served_enough_is_replaced_without_a_failure():
    with running(Server(Doom(), accelerator="cpu", limits=Limits(max_requests=20))) as service:
        first = service.worker_pids()
        seen, failures = set(), 0
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            deadline = time.monotonic() + 120
            while len(seen) < 3 and time.monotonic() < deadline:
                got = await asyncio.gather(*(client.post("/predict", json={}) for _ in range(8)))
                failures += sum(answer.status_code != 200 for answer in got)
                seen |= {answer.json() for answer in got if answer.status_code == 200}
        assert failures == 0
        assert len(seen) >= 3, "no worker was replaced"
        wait_until(lambda: not set(first) & set(service.worker_pids()), 60, "the first to end")
        assert service.metric("blixt_serve_worker_restarts_total") == 0


def test_a_stream_outlives_the_replacement_of_its_worker():
    limits = Limits(max_requests=2)
    with running(Server(Ticker(), accelerator="cpu", timeout_s=2, limits=limits)) as service:
        (first,) = service.worker_pids()
        url, body = f"{service.url}/ticks", {"n": 60, "pause_s": 0.05}
        with httpx.stream("POST", url, json=body, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            httpx.post(url, json={"n": 1}, timeout=60)
            wait_until(lambda: len(service.worker_pids()) == 2, 60, "the successor")
            rest = [line for line in lines if line.startswith("data:")]
        assert len(rest) == 59
        assert "event: error" not in rest
        wait_until(lambda: first not in service.worker_pids(), 60, "the old worker to end")


def test_a_worker_that_leaks_is_replaced():
    with running(Server(Doom(), accelerator="cpu", limits=Limits(max_memory_bytes=250 << 20))) as service:
        (first,) = service.worker_pids()
        for _ in range(6):
            assert post(service, {"do": "leak"}).status_code == 200
        wait_until(lambda: service.worker_pids() not in ([first], []), 60, "another worker")
        wait_until(lambda: first not in service.worker_pids(), 60, "the old worker to end")
        assert post(service, {}).status_code == 200


# -- setup -----------------------------


def test_while_setup_runs_ready_says_503_and_why_and_requests_wait(tmp_path):
    gate = tmp_path / "gate"
    with running(Server(SlowSetup(str(gate)), accelerator="cpu"), ready=False) as service:
        wait_until(lambda: status(service, "/ready") == 503, 60, "the front")
        assert "setup has been running" in httpx.get(f"{service.url}/ready").text
        gate.write_text("open")
        service.wait_ready()
        assert post(service, 5).json() == 5


def test_a_setup_that_takes_too_long_is_ended_and_told(tmp_path, capfd):
    api = SlowSetup(str(tmp_path / "never"), start_timeout_s=0.5)
    limits = Limits(max_setup_failures=1)
    with running(Server(api, accelerator="cpu", limits=limits), ready=False) as service:
        assert service.wait(60) == 3
    assert "setup took longer than 0.5 s" in capfd.readouterr().err


def test_a_setup_that_fails_once_is_tried_again(tmp_path):
    api = FailsOnce(str(tmp_path / "marker"))
    with running(Server(api, accelerator="cpu", limits=Limits(backoff_s=0.01))) as service:
        assert post(service, 1).json() == 1


def test_every_worker_answers_its_examples_before_it_is_ready():
    with running(Server(Warm(), accelerator="cpu")) as service:
        assert post(service, 9).json() == [1, 2, 3, 9]


def test_a_batched_api_is_warmed_up_with_batches():
    with running(Server(Warm(max_batch_size=2), accelerator="cpu")) as service:
        assert post(service, 9).json() == [[1, 2], [3], [9]]


def test_an_example_that_fails_is_a_setup_that_fails(capfd):
    server = Server(Warm(bad=True), accelerator="cpu", limits=Limits(max_setup_failures=1))
    with running(server, ready=False) as service:
        assert service.wait(60) == 3
    assert "Warm answered its example 0 with 500" in capfd.readouterr().err


# -- health -----------------------------


@pytest.mark.parametrize("kind", [Healthy, AsyncHealthy])
def test_health_is_the_apis_own_word(kind, tmp_path):
    file = tmp_path / "health"
    file.write_text("well")
    with running(Server(kind(str(file)), accelerator="cpu")) as service:
        assert status(service, "/health") == 200
        file.write_text("ill")
        assert status(service, "/health") == 503
        file.write_text("raise")
        assert status(service, "/health") == 503


async def test_a_health_check_that_hangs_is_unhealthy_and_blocks_nobody(tmp_path):
    file = tmp_path / "health"
    file.write_text("hang")
    with running(Server(Healthy(str(file)), accelerator="cpu")) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            check = asyncio.create_task(client.get("/health"))
            assert (await client.post("/predict", json=1)).status_code == 200
            assert not check.done()
            assert (await check).status_code == 503


# -- callbacks and loggers -----------------------------


def test_callbacks_hear_of_everything_in_order_and_a_faulty_one_harms_nobody(tmp_path):
    file = tmp_path / "events"
    server = Server(Doubler(), accelerator="cpu", callbacks=[Faulty(), Notes(str(file))])
    with running(server) as service:
        assert post(service, 2.0, "/doubler").json() == 4.0
        wait_until(lambda: "response, 0 active" in file.read_text(), 60, "the last event")
        service.terminate()
    lines = file.read_text().splitlines()
    worker = [line for line in lines if line.split()[0] in ("before", "after")]
    assert worker == [
        "before setup",
        "after setup",
        "before decode",
        "after decode",
        "before predict of Doubler",
        "after predict",
        "before encode",
        "after encode",
    ]
    assert [line for line in lines if "active" in line] == ["request, 1 active", "response, 0 active"]
    assert "server start" in lines
    assert lines[-1] == "server end"


def test_logged_values_reach_the_loggers_in_a_process_of_their_own(tmp_path):
    file = tmp_path / "log"
    server = Server(Logs(), accelerator="cpu", loggers=[FileLogger(str(file))], workers_per_device=2)
    with running(server) as service:
        worker = post(service, {"poison": 1, "loss": 0.5, "note": [1, 2]}).json()
        wait_until(lambda: file.exists() and len(file.read_text().splitlines()) == 2, 60, "two lines")
        pids = {int(line.split()[0]) for line in file.read_text().splitlines()}
        assert len(pids) == 1
        assert not pids & {worker, service.process.pid, os.getpid()}
        assert [line.split(" ", 1)[1] for line in file.read_text().splitlines()] == [
            "loss=0.5",
            "note=[1, 2]",
        ]
        service.terminate()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 60, "the loggers' end")


def test_without_loggers_nothing_is_sent():
    with running(Server(Logs(), accelerator="cpu")) as service:
        assert post(service, {"loss": 1}).status_code == 200
    assert Logs().log("loss", 1) is None


# -- overload -----------------------------


async def flood(url, count, connections):
    """Send requests over raw connections until `count` are answered, some by the model; then all leave.

    A refusal takes so little time that thousands fit before a worker on a busy machine has its first turn.
    """
    host, port = url.removeprefix("http://").split(":")
    message = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
    statuses, served = [], set()

    async def client():
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            while len(statuses) < count or 200 not in served:
                writer.write(message + b'{"s":0.05}')
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
                statuses.append(int(head.split()[1]))
                served.add(statuses[-1])
        finally:
            writer.close()

    clients = [asyncio.create_task(client()) for _ in range(connections)]
    await asyncio.wait(clients, return_when=asyncio.FIRST_COMPLETED)
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return statuses


async def test_of_three_thousand_requests_at_twenty_a_second_most_are_refused_and_the_next_is_answered():
    server = Server(Sleeper(), accelerator="cpu", max_queue=16)
    with running(server) as service:
        began = time.monotonic()
        statuses = await flood(service.url, 3000, 100)
        assert time.monotonic() - began < 60  # 150 s at 20/s: nobody waited for a refusal
        assert set(statuses) == {200, 429}
        assert statuses.count(429) > 2000
        answer = httpx.post(
            f"{service.url}/predict", json={}, timeout=30
        )  # the queue of the gone costs nothing
        assert answer.status_code == 200
