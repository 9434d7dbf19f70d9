"""Several fronts on one port: one is killed, all share workers, metrics and the way to the end."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess

import httpx
import psutil
import pytest

from blixt.serve import ConfigError, Limits, Server
from blixt.serve.testing import running, wait_until

from .apis import Raw, Sleeper, Ticker, Tools

pytestmark = pytest.mark.anyio


def ask(url, **request):
    """One request on a connection of its own, so that any front may get it."""
    return httpx.post(f"{url}/predict", json=request, timeout=60)


def fronts_of(service):
    children = psutil.Process(service.process.pid).children()
    return [child for child in children if any(c.laddr.port == port_of(service) for c in listening(child))]


def is_ready(service):
    try:
        return httpx.get(f"{service.url}/ready").status_code == 200
    except httpx.TransportError:
        return False


def listening(process):
    try:
        return [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.Error:  # it has just ended
        return []


def port_of(service):
    return httpx.URL(service.url).port


@pytest.fixture(scope="module")
def team():
    apis = [Tools(), Ticker(), Raw()]
    with running(Server(apis, accelerator="cpu", workers_per_device=2, fronts=2)) as service:
        yield service


def test_both_fronts_listen_and_answer(team):
    assert len(fronts_of(team)) == 2
    answers = [ask(team.url, do="echo", input=i).json() for i in range(20)]
    assert answers == [{"output": i} for i in range(20)]


def test_both_fronts_count_into_the_same_metrics(team):
    before = team.metric("blixt_serve_requests_total", api="/predict")
    for i in range(30):
        ask(team.url, do="echo", input=i)
    # Whichever front is asked tells the sum over both.
    assert {team.metric("blixt_serve_requests_total", api="/predict") for _ in range(6)} == {before + 30}
    assert team.metric("blixt_serve_fronts") == 2
    assert team.metric("blixt_serve_workers_ready", api="/predict") == 2


def test_streams_and_large_bodies_pass_through_every_front(team):
    body = os.urandom(300_000)
    for _ in range(8):
        assert httpx.post(f"{team.url}/raw", content=body).json() == len(body)
        assert httpx.post(f"{team.url}/ticks", json={"n": 3}).text.count("data:") == 3


async def test_kill_9_of_a_front_leaves_the_other_serving_and_it_comes_back(team):
    before = fronts_of(team)
    counted = team.metric("blixt_serve_requests_total", api="/predict")
    victim, other = before
    async with httpx.AsyncClient(base_url=team.url) as client:
        lasting = await connection_to(client, other)
        victim.kill()
        for _ in range(20):  # the connection that the other front holds goes on
            answer = await client.post("/predict", json={"do": "echo", "input": 1})
            assert answer.json() == {"output": 1}
        assert lasting
    await asyncio.to_thread(
        wait_until,
        lambda: len(fronts_of(team)) == 2 and victim not in fronts_of(team),
        60,
        "two fronts again",
    )
    assert {front.pid for front in fronts_of(team)} != {front.pid for front in before}
    for i in range(20):
        assert ask(team.url, do="echo", input=i).status_code == 200
    # What the dead front had counted is not lost, and its gauges are not left behind.
    assert team.metric("blixt_serve_requests_total", api="/predict") >= counted + 40
    await asyncio.to_thread(
        wait_until,
        lambda: team.metric("blixt_serve_in_flight", api="/predict") == 0,
        60,
        "gauges of the living",
    )


async def connection_to(client, process):
    """Ask until the client's one kept-alive connection is with this process."""
    for _ in range(200):
        await client.post("/predict", json={"do": "echo", "input": 0})
        (pooled,) = client._transport._pool.connections
        mine = pooled._connection._network_stream.get_extra_info("client_addr")[1]
        if any(c.raddr and c.raddr.port == mine for c in process.net_connections("tcp")):
            return True
        await client.aclose_idle() if hasattr(client, "aclose_idle") else await pooled.aclose()
    raise AssertionError("no connection ever reached that front")


async def test_kill_9_of_a_worker_with_several_fronts_heals(team):
    victim = team.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    statuses = [ask(team.url, do="echo", input=i).status_code for i in range(30)]
    assert set(statuses) <= {200, 503}
    await asyncio.to_thread(
        wait_until,
        lambda: (
            victim not in team.worker_pids() and team.metric("blixt_serve_workers_ready", api="/predict") == 2
        ),
        60,
        "the pool to heal",
    )
    for _ in range(10):
        assert ask(team.url, do="echo", input=1).status_code == 200


async def test_sigterm_drains_all_fronts_and_exits_0(tmp_path):
    with running(Server(Sleeper(), accelerator="cpu", workers_per_device=2, fronts=2)) as service:
        family = psutil.Process(service.process.pid).children(recursive=True)
        async with httpx.AsyncClient(base_url=service.url) as client:
            gate = tmp_path / "gate"
            slow = [asyncio.create_task(client.post("/predict", json={"gate": str(gate)})) for _ in range(2)]
            await asyncio.to_thread(
                wait_until, lambda: service.metric("blixt_serve_in_flight") == 2, 60, "both to run"
            )
            os.kill(service.process.pid, signal.SIGTERM)
            await asyncio.to_thread(wait_until, lambda: not is_ready(service), 60, "draining")
            gate.touch()
            assert [(await task).status_code for task in slow] == [200, 200]
        assert service.wait(60) == 0
        assert psutil.wait_procs(family, timeout=60)[1] == []


async def test_a_hung_worker_is_killed_though_another_process_supervises_it():
    limits = Limits(kill_grace_s=0.1)
    with running(Server(Sleeper(), accelerator="cpu", timeout_s=1, fronts=2, limits=limits)) as service:
        (before,) = service.worker_pids()
        assert (await asyncio.to_thread(ask, service.url, s=1000)).status_code == 504
        await asyncio.to_thread(
            wait_until, lambda: service.worker_pids() not in ([before], []), 60, "a new worker"
        )
        await asyncio.to_thread(
            wait_until, lambda: ask(service.url, s=0).status_code == 200, 60, "an answer within its 1 s"
        )


async def test_fronts_and_workers_end_when_their_supervisor_is_killed():
    with running(Server(Sleeper(), accelerator="cpu", fronts=2)) as service:
        family = psutil.Process(service.process.pid).children(recursive=True)
        service.process.kill()
        assert psutil.wait_procs(family, timeout=60)[1] == []


async def test_workers_are_replaced_in_turn_below_several_fronts():
    limits = Limits(max_requests=20)
    with running(Server(Tools(), accelerator="cpu", fronts=2, limits=limits)) as service:
        pids = {ask(service.url, do="pid").json() for _ in range(60)}
        await asyncio.to_thread(
            wait_until,
            lambda: pids.add(ask(service.url, do="pid").json()) or len(pids) > 1,
            60,
            "a replacement",
        )


def test_an_app_that_was_changed_cannot_be_split(capfd):
    server = Server(Tools(), accelerator="cpu", fronts=2)
    assert server.app is not None
    with pytest.raises(SystemExit) as ended:
        server.run(port=0)
    assert ended.value.code == 2
    assert "fronts=1" in capfd.readouterr().err


def test_a_port_that_is_taken_is_refused_for_several_fronts_too():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit) as ended:
            Server(Tools(), accelerator="cpu", fronts=2).run(port=taken.getsockname()[1])
    assert ended.value.code == 98


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    )
    extra = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *extra], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize("fronts", [1, 2])
def test_https_serves_answers_streams_and_large_bodies(certificate, fronts):
    cert, key = map(str, certificate)
    server = Server([Tools(), Ticker(), Raw()], accelerator="cpu", fronts=fronts)
    with running(server, ssl_certfile=cert, ssl_keyfile=key) as service:
        assert service.url.startswith("https://")
        with httpx.Client(base_url=service.url, verify=ssl.create_default_context(cafile=cert)) as client:
            assert client.post("/predict", json={"do": "echo", "input": 1}).json() == {"output": 1}
            assert client.post("/raw", content=bytes(300_000)).json() == 300_000
            assert client.post("/ticks", json={"n": 3}).text.count("data:") == 3


def test_a_certificate_that_cannot_be_read_is_one_sentence(tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        Server(Tools(), accelerator="cpu").run(port=0, ssl_certfile=str(tmp_path / "none.pem"))
    assert ended.value.code == 2
    assert "none.pem cannot be used" in capfd.readouterr().err


def test_a_unix_socket_is_shared_by_several_fronts(tmp_path):
    path = str(tmp_path / "team.sock")
    transport = httpx.HTTPTransport(uds=path)
    server = Server(Tools(), accelerator="cpu", fronts=2)
    with running(server, uds=path), httpx.Client(transport=transport, base_url="http://blixt") as client:
        assert client.post("/predict", json={"do": "echo", "input": 1}).json() == {"output": 1}


def test_a_wrong_count_of_fronts_is_refused():
    with pytest.raises(ConfigError, match="fronts=64"):
        Server(Tools(), accelerator="cpu", fronts=64)
