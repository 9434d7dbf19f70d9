import asyncio
import json

import pytest

from blixt.cloud.gateway import Gateway, GatewayStartError, Limits, RouteTable, Stream

from .rig import Recorder, Rig, rigged, status

pytestmark = pytest.mark.anyio


def _other_gateway() -> Gateway:
    async def dial(allocation_id: str, port: int) -> Stream:
        raise ConnectionRefusedError

    async def nobody(token: str) -> None:
        return None

    async def never(principal: object, teamspace: str) -> bool:
        return False

    return Gateway(RouteTable(), dial, nobody, never, lambda uid: None, api="/nowhere")


async def test_a_port_in_use_is_one_clear_sentence(rig: Rig) -> None:
    with pytest.raises(GatewayStartError, match=rf"^Port {rig.port} on 127\.0\.0\.1 is in use; .*--port"):
        await _other_gateway().start("127.0.0.1", rig.port)


async def test_an_address_of_another_machine_is_one_clear_sentence() -> None:
    with pytest.raises(GatewayStartError, match=r"^Cannot listen on 192\.0\.2\.1 port 0: "):
        await _other_gateway().start("192.0.2.1", 0)


async def test_stopping_a_gateway_that_never_started_is_fine() -> None:
    await _other_gateway().stop()


async def test_after_stop_the_port_is_free_again(rig: Rig) -> None:
    await rig.gateway.stop(drain_s=0.1)
    other = _other_gateway()
    assert await other.start("127.0.0.1", rig.port) == rig.port
    await other.stop()


async def test_forwarding_headers_are_kept_when_a_proxy_in_front_is_trusted() -> None:
    code = Recorder()
    async with rigged(code, limits=Limits(trust_forwarded=True)) as rig:
        await rig.ask(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 9.9.9.9\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n\r\n"
        )
    assert code.seen[0].header("x-forwarded-for") == "9.9.9.9, 127.0.0.1"
    assert code.seen[0].header("x-forwarded-proto") == "https"
    assert code.seen[0].header("x-forwarded-host") == "public.example"


async def test_a_failing_identity_service_is_an_error_of_ours_and_not_a_way_in(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(token: str) -> None:
        raise RuntimeError("database is gone")

    code = Recorder()
    await rig.deploy(code, public=False)
    monkeypatch.setattr(rig.gateway._context.trust, "_authenticate", broken)
    answer = await rig.ask(b"GET /d/lab/m/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\r\n")
    assert status(answer) == 500
    assert "database" not in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert "database is gone" in caplog.text
    assert code.seen == []


async def test_requests_that_wait_in_vain_do_not_block_each_other(rig: Rig) -> None:
    rig.set_replicas(state="sleeping", hold_s=0.1)
    request = b"GET /d/lab/m/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = await asyncio.gather(*(rig.ask(request) for _ in range(50)))
    assert {status(answer) for answer in answers} == {504}
