"""The clients against real servers."""

import contextlib
import io
import os
import signal
import socket
import threading
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

from blixt.serve import API, Reply, Server
from blixt.serve.client import AsyncClient, Client, RemoteError, Retry, ServiceUnreachable, StreamBroken
from blixt.serve.errors import ConfigError
from blixt.serve.testing import running

from ..apis import Order, Ticker, Tools


class Doubled(msgspec.Struct):
    double: int
    tags: list[str]


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Scripted:
    """A peer that answers each connection with the next of the given bytes; notes what it was sent."""

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self._answers = answers
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._sock.accept()
            with connection:
                got = b""
                while b"\r\n\r\n" not in got:
                    got += connection.recv(65536)
                self.requests.append(got)
                connection.sendall(answer)

    def close(self) -> None:
        self._sock.close()
        self._thread.join(60)


@contextlib.contextmanager
def scripted(*answers: bytes):
    peer = Scripted(*answers)
    try:
        yield peer
    finally:
        peer.close()


def answer(status: str, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "content-type: application/json", "", ""]).encode() + body


FULL = answer("429 Too Many Requests", b'{"detail": "full"}', "retry-after: 0")
QUICK = Retry(attempts=3, backoff_s=0.001)


def test_a_call_returns_the_answer(service):
    with Client(service.url) as client:
        assert client.predict({"do": "echo", "input": 4}) == {"output": 4}


def test_an_answer_is_read_as_the_type_asked_for(service):
    with Client(service.url) as client:
        got = client.predict({"x": 2, "tags": ["a"]}, path="/typed", returns=Doubled)
        assert got == Doubled(double=4, tags=["a"])
        order = client.predict(Order(item="tea", count=1), path="/modelled", returns=Order)
        assert order == Order(item="tea", count=2)


def test_an_answer_of_another_shape_says_so(service):
    with Client(service.url) as client, pytest.raises(RemoteError, match="the answer is no Doubled"):
        client.predict({"do": "echo", "input": 4}, returns=Doubled)


def test_bytes_travel_as_they_are(service):
    with Client(service.url) as client:
        assert client.predict(b"12345", path="/raw") == 5
        assert client.predict({"do": "bytes"}) == b"\x00\x01raw"


class Halves(API):
    def predict(self, x: np.ndarray) -> Reply:
        return Reply(x / 2, media_type="application/x-npy")


def test_arrays_travel_as_numbers_both_ways():
    picture = np.arange(3 * 224 * 224, dtype=np.float32).reshape(3, 224, 224)
    with running(Server(Halves(), accelerator="cpu")) as own, Client(own.url) as client:
        for array in (picture, picture[:, :2, :2], np.float64(3.0), picture.T):
            got = client.predict(array)
            assert (got.dtype, got.shape) == (array.dtype, array.shape)
            assert np.array_equal(got, array / 2)
        raw = "application/octet-stream; dtype=float32; shape=3,224,224"
        answer = httpx.post(f"{own.url}/predict", content=picture.tobytes(), headers={"content-type": raw})
        assert answer.headers["content-type"] == "application/x-npy"
        assert np.array_equal(np.load(io.BytesIO(answer.content)), picture / 2)
        [api] = own.info()["apis"]
        assert api["lane"] == "hot"


def test_an_error_carries_status_detail_and_headers(service):
    with Client(service.url) as client, pytest.raises(RemoteError) as caught:
        client.predict({"do": "teapot"})
    assert (caught.value.status, caught.value.detail) == (418, {"sort": "short and stout"})
    assert caught.value.headers["x-tea"] == "green"


def test_a_validation_error_names_the_field(service):
    with Client(service.url) as client, pytest.raises(RemoteError) as caught:
        client.predict({"x": "two"}, path="/typed")
    assert caught.value.status == 422
    assert caught.value.detail[0]["loc"] == ["body", "x"]


def test_pieces_of_a_stream_come_as_values(service):
    with Client(service.url) as client:
        assert [piece["i"] for piece in client.stream({"n": 3}, path="/ticks")] == [0, 1, 2]


def test_an_error_inside_a_stream_comes_after_its_pieces(service):
    got = []
    with Client(service.url) as client, pytest.raises(RemoteError) as caught:
        got.extend(client.stream({"n": 5, "fail_at": 2, "pause_s": 0.01}, path="/ticks"))
    assert (caught.value.status, caught.value.detail, caught.value.pieces) == (409, "no more", 2)
    assert len(got) == 2


def test_leaving_a_stream_stops_its_generator(service, tmp_path):
    log = tmp_path / "sent"
    with Client(service.url) as client:
        for _ in client.stream({"n": 3000, "pause_s": 0.02, "log": str(log)}, path="/ticks"):
            break
        client.predict({"do": "pid"})
    wait_for_text(log)
    assert int(log.read_text()) < 1500


def wait_for_text(path: Path) -> None:
    from blixt.serve.testing import wait_until

    wait_until(lambda: path.exists() and path.read_text() != "", 60, f"{path} to be written")


def until_killed(client, pid: int, got: list) -> None:
    for piece in client.stream({"n": 1000, "pause_s": 0.01}, path="/ticks"):
        got.append(piece)
        if len(got) == 3:
            os.kill(pid, signal.SIGKILL)


def test_a_stream_whose_server_dies_says_how_far_it_came():
    got = []
    with (
        running(Server(Ticker(), accelerator="cpu")) as service,
        Client(service.url) as client,
        pytest.raises(StreamBroken, match="broke off after") as caught,
    ):
        until_killed(client, service.process.pid, got)
    assert caught.value.pieces == len(got)


def test_a_refused_call_is_repeated():
    with scripted(FULL, answer("503 Service Unavailable"), answer("200 OK", b"7")) as peer:
        assert Client(peer.url, retry=QUICK).predict(1) == 7
    assert len(peer.requests) == 3


def test_a_call_is_refused_in_the_end():
    with scripted(FULL, FULL, FULL) as peer, pytest.raises(RemoteError, match="429: full"):
        Client(peer.url, retry=QUICK).predict(1)


def test_no_retry_means_one_call():
    with scripted(FULL) as peer, pytest.raises(RemoteError):
        Client(peer.url, retry=0).predict(1)
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "first",
    [b"", answer("503 Service Unavailable", b"{}", "x-blixt-began: 1")],
    ids=["dropped", "worker died"],
)
def test_work_that_may_have_begun_is_repeated_only_when_asked(first):
    with scripted(first) as peer, pytest.raises((ServiceUnreachable, RemoteError)):
        Client(peer.url, retry=QUICK).predict(1)
    assert len(peer.requests) == 1
    with scripted(first, answer("200 OK", b"7")) as peer:
        assert Client(peer.url, retry=Retry(3, 0.001, unsafe=True)).predict(1) == 7


def test_nobody_there_is_a_sentence():
    client = Client(f"http://127.0.0.1:{a_free_port()}", retry=QUICK)
    with pytest.raises(
        ServiceUnreachable, match=r"cannot be reached after 3 attempts: .*is the server running"
    ):
        client.predict(1)
    assert not client.ready()
    with pytest.raises(ServiceUnreachable, match=r"not ready within 0\.1 s"):
        client.wait_ready(0.1)


def test_ready_and_info(service):
    with Client(service.url) as client:
        client.wait_ready(60)
        assert "/predict" in {api["path"] for api in client.info()["apis"]}


def test_the_key_is_sent():
    with running(Server(Tools(), accelerator="cpu", api_key="s3cret")) as service:
        assert Client(service.url, api_key="s3cret").predict({"do": "echo", "input": 1}) == {"output": 1}
        with pytest.raises(RemoteError, match="401"):
            Client(service.url, api_key="wrong").predict({"do": "echo", "input": 1})


@pytest.mark.parametrize("wrong", [{"url": "localhost:80"}, {"timeout_s": 0}, {"retry": -1}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ConfigError):
        Client(**wrong)


@pytest.mark.anyio
async def test_the_async_client_does_the_same(service):
    async with AsyncClient(service.url) as client:
        await client.wait_ready(60)
        assert await client.predict({"do": "echo", "input": 4}) == {"output": 4}
        assert await client.predict({"x": 1}, path="/typed", returns=Doubled) == Doubled(2, [])
        assert [piece["i"] async for piece in client.stream({"n": 3}, path="/ticks")] == [0, 1, 2]
        with pytest.raises(RemoteError, match="418"):
            await client.predict({"do": "teapot"})
        assert (await client.info())["apis"]


@pytest.mark.anyio
async def test_the_async_client_repeats_refused_calls():
    with scripted(FULL, answer("200 OK", b"7")) as peer:
        async with AsyncClient(peer.url, retry=QUICK) as client:
            assert await client.predict(1) == 7
    async with AsyncClient(f"http://127.0.0.1:{a_free_port()}", retry=0) as client:
        with pytest.raises(ServiceUnreachable):
            await client.predict(1)
        assert not await client.ready()
