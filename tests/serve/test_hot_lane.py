"""The hot lane and bad luck: it knows its ground; clients leave, read slowly or flood; workers are killed."""

import asyncio
import json
import os
import resource
import signal
import socket

import httpx
import psutil
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from blixt.serve import Limits, Server
from blixt.serve.http import hot_routes
from blixt.serve.http.web import Web
from blixt.serve.testing import running, wait_until

from .apis import Batched, Raw, Sleeper, Ticker, Tools

pytestmark = pytest.mark.anyio


async def eventually(condition, what, timeout_s=60):
    await asyncio.to_thread(wait_until, condition, timeout_s, what)


def post(path, value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


def connect(service):
    url = httpx.URL(service.url)
    return socket.create_connection((url.host, url.port), 60)


# -- where it stands -----------------------------------------------------------------------------------------


def test_the_installed_uvicorn_has_what_the_lane_extends():
    assert hot_routes.unfit_reason() is None


def test_another_signature_of_uvicorns_callbacks_is_noticed(monkeypatch):
    monkeypatch.setattr(HttpToolsProtocol, "on_header", lambda self, name, value, position: None)
    assert "another on_header" in hot_routes.unfit_reason()


def test_a_missing_callback_of_uvicorn_is_noticed(monkeypatch):
    monkeypatch.delattr(HttpToolsProtocol, "on_message_complete")
    assert "another on_message_complete" in hot_routes.unfit_reason()


def lanes_of(server):
    with running(server) as service:
        assert httpx.post(f"{service.url}/predict", json={"do": "echo", "input": 1}).json() == {"output": 1}
        return {api["path"]: (api["lane"], api["lane_reason"]) for api in service.info()["apis"]}


def test_info_tells_each_routes_lane_and_the_reason():
    assert lanes_of(Server([Tools(), Ticker()], accelerator="cpu")) == {
        "/predict": ("hot", "a plain route"),
        "/ticks": ("hot", "a plain route"),
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hot_lane": False}, "hot_lane=False"),
        ({"web": Web(cors=["https://a.example"])}, "CORS headers are added to its answers"),
    ],
)
def test_what_makes_a_route_cold_is_said(options, reason):
    assert lanes_of(Server(Tools(), accelerator="cpu", **options)) == {"/predict": ("cold", reason)}


# -- clients -------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_in_a_stream_wastes_one_token_at_most(tmp_path):
    with running(Server(Ticker(), accelerator="cpu")) as service:
        log = tmp_path / "sent"
        request = {"n": 100, "pause_s": 0.05, "log": str(log)}
        with httpx.stream("POST", f"{service.url}/ticks", json=request) as answer:
            lines = answer.iter_lines()
            assert sum(next(lines).startswith("data:") for _ in range(10)) == 5
        await eventually(log.exists, "the generator to be closed")
        made = int(log.read_text())
        # The front got all that was made but, perhaps, the one under way when the client left.
        assert made - 1 <= service.metric("blixt_serve_stream_pieces_total") <= made
        assert made < 90
        assert service.metric("blixt_serve_requests_cancelled_total") == 1
        assert httpx.post(f"{service.url}/ticks", json={"n": 1}).status_code == 200


@pytest.mark.parametrize("hot_lane", [True, False])
async def test_a_step_that_was_under_way_when_the_client_left_is_the_last(tmp_path, hot_lane):
    with running(Server(Ticker(), accelerator="cpu", hot_lane=hot_lane)) as service:
        log, gate = tmp_path / "sent", tmp_path / "gate"
        request = {"n": 1000, "gate": str(gate), "log": str(log)}
        with httpx.stream("POST", f"{service.url}/ticks", json=request, timeout=60) as answer:
            assert next(answer.iter_lines()).startswith("data:")
        await eventually(
            lambda: service.metric("blixt_serve_requests_cancelled_total") == 1, "the leaving to be noticed"
        )
        gate.touch()  # the generator goes on with its second piece only now
        await eventually(log.exists, "the generator to be closed")
        assert int(log.read_text()) <= 2


async def test_a_client_that_does_not_read_holds_the_stream_and_costs_no_memory():
    with running(Server(Ticker(), accelerator="cpu", timeout_s=60)) as service, connect(service) as sock:
        front = psutil.Process(service.process.pid)
        before = front.memory_info().rss
        sock.sendall(post("/ticks", {"n": 100_000, "pad": 10_000}))  # a gigabyte, if it were sent
        await eventually(
            lambda: service.metric("blixt_serve_stream_pauses_total") >= 1, "the stream to be held"
        )
        made = service.metric("blixt_serve_stream_pieces_total")
        assert service.metric("blixt_serve_streams") == 1
        assert front.memory_info().rss - before < 30 * 2**20
        assert made < 5_000
        # It goes on where it stopped when the client reads again.
        read = 0
        while read < 3_000_000 + made * 10_000:
            read += len(sock.recv(1 << 20))
        assert service.metric("blixt_serve_stream_pieces_total") > made


async def test_a_client_that_never_reads_is_let_go():
    limits = Limits(keep_alive_s=1)
    server = Server(Tools(), accelerator="cpu", timeout_s=1, limits=limits)
    with running(server) as service, connect(service) as sock:
        request = post("/predict", {"do": "echo", "input": "." * 400_000})
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # and no TimeoutError after 60 s
            send_for_ever(sock, request)


def send_for_ever(sock, request):
    while True:
        sock.sendall(request)


async def test_a_large_body_that_stops_gives_its_memory_back():
    limits = Limits(receive_timeout_s=2)
    with running(Server(Raw(), accelerator="cpu", limits=limits)) as service:
        with connect(service) as sock:
            sock.sendall(post("/raw", bytes(1_000_000))[:400_000])
            await eventually(lambda: lent_for_another_byte(service, sock), "a block to be lent")
            assert sock.recv(4096).startswith(b"HTTP/1.1 408")
        await eventually(lambda: service.metric("blixt_serve_slab_bytes") == 0, "the block to come back")
        with connect(service) as sock:
            sock.sendall(post("/raw", bytes(1_000_000))[:400_000])
            await eventually(lambda: lent_for_another_byte(service, sock), "a block to be lent")
        await eventually(lambda: service.metric("blixt_serve_slab_bytes") == 0, "the block to come back")
        assert httpx.post(f"{service.url}/raw", content=bytes(1_000_000)).json() == 1_000_000


def lent_for_another_byte(service, sock):
    """Whether a large body has its block; another byte of it keeps the server from giving it up meanwhile."""
    sock.sendall(b"\0")
    return service.metric("blixt_serve_slab_bytes") >= 1_000_000


async def test_large_bodies_from_many_clients_arrive_whole_and_all_memory_comes_back():
    with running(Server(Raw(), accelerator="cpu", workers_per_device=2)) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            sizes = [1000 * (1 + i * 37 % 900) for i in range(120)]
            answers = await asyncio.gather(*(client.post("/raw", content=os.urandom(n)) for n in sizes))
        assert [answer.json() for answer in answers] == sizes
        assert service.metric("blixt_serve_slab_bytes") == 0


async def test_a_flood_is_refused_at_once_and_the_next_request_answered_at_once():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with running(Server(Sleeper(), accelerator="cpu", max_queue=100)) as service:
        url, statuses = httpx.URL(service.url), []

        async def one():
            reader, writer = await asyncio.open_connection(url.host, url.port)
            try:
                writer.write(post("/predict", {"s": 0.5}))
                statuses.append((await reader.readline()).split()[1])
            finally:
                writer.close()

        flood = [asyncio.create_task(one()) for _ in range(3000)]
        async with asyncio.timeout(120):  # at two a second, the flood would take 25 minutes
            while statuses.count(b"429") < 2500:
                await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
                flood = [task for task in flood if not task.done()]
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        assert set(statuses) <= {b"200", b"429"}
        # Nobody works for those who left: the probe waits for what runs, not for a queue of 50 s.
        answer = await asyncio.to_thread(httpx.post, f"{service.url}/predict", json={"s": 0}, timeout=30)
        assert answer.status_code == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- workers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [False, True])
async def test_after_kill_9_of_a_worker_every_request_ends_and_the_pool_heals(retries, tmp_path):
    server = Server(Sleeper(retry_on_crash=retries), accelerator="cpu", workers_per_device=2)
    with running(server) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            gate = tmp_path / "gate"
            held = {"gate": str(gate)}
            tasks = [asyncio.create_task(client.post("/predict", json=held)) for _ in range(8)]
            await eventually(lambda: service.metric("blixt_serve_in_flight") == 8, "all to be admitted")
            os.kill(service.worker_pids()[0], signal.SIGKILL)
            gate.touch()
            answers = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        statuses = [answer.status_code for answer in answers]
        # What it computed fails unless it may be repeated; what it had merely been sent is done by the other.
        assert statuses.count(503) <= (0 if retries else 1)
        assert statuses.count(200) + statuses.count(503) == 8
        await eventually(lambda: service.metric("blixt_serve_workers_ready") == 2, "the pool to heal")


async def test_pipelined_requests_survive_a_worker_that_dies_between_them():
    with running(Server(Sleeper(), accelerator="cpu")) as service, connect(service) as sock:
        sock.sendall(post("/predict", {"die": True}) + post("/predict", {"s": 0}) * 2)
        received = b""
        while received.count(b"HTTP/1.1 ") < 3:
            data = sock.recv(65536)
            assert data, received
            received += data
        assert received.startswith(b"HTTP/1.1 503")
        assert received.count(b"HTTP/1.1 200") == 2


async def test_sigterm_lets_a_hot_stream_and_a_pipelined_request_finish(tmp_path):
    with running(Server([Ticker(), Sleeper()], accelerator="cpu")) as service:
        with connect(service) as stream, connect(service) as plain:
            gate = tmp_path / "gate"
            stream.sendall(post("/ticks", {"n": 10, "gate": str(gate)}))
            plain.sendall(post("/predict", {"gate": str(gate)}))
            await eventually(lambda: service.metric("blixt_serve_in_flight") == 2, "both to run")
            os.kill(service.process.pid, signal.SIGTERM)
            await eventually(lambda: httpx.get(f"{service.url}/ready").status_code == 503, "draining")
            gate.touch()
            assert read_all(stream).count(b"data: ") == 10
            assert read_all(plain).startswith(b"HTTP/1.1 200")
        assert service.wait(60) == 0


def read_all(sock):
    received = b""
    while data := sock.recv(65536):
        received += data
    return received


async def test_a_batched_route_batches_in_the_hot_lane():
    with running(Server(Batched(max_batch_size=8, batch_timeout_s=0.05), accelerator="cpu")) as service:
        async with httpx.AsyncClient(base_url=service.url) as client:
            answers = await asyncio.gather(*(client.post("/batched", json=i) for i in range(16)))
        assert sorted(answer.json()[0] for answer in answers) == list(range(16))
        assert max(answer.json()[1] for answer in answers) > 1
