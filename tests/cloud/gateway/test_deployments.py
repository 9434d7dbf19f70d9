"""Paths under /d/: who may, which replica, holding from zero, and what happens when a replica dies."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from blixt.cloud.gateway import Backend, Limits, Stats

from .rig import OK, Handler, Recorder, Rig, eventually, rigged, status, within

pytestmark = pytest.mark.anyio
GET = b"GET /d/lab/m/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /d/lab/m/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"


def _named(name: str) -> Recorder:
    return Recorder(
        lambda seen: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name.encode())
    )


def _gate() -> tuple[Handler, asyncio.Event, Callable[[], int]]:
    """An upstream whose requests wait for an event; and how many are inside."""
    release = asyncio.Event()
    inside = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal inside
        await reader.readuntil(b"\r\n\r\n")
        inside += 1
        await within(release)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    return handler, release, lambda: inside


async def _die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def test_the_prefix_is_stripped_and_told(rig: Rig) -> None:
    code = Recorder()
    await rig.deploy(code)
    for target, seen in {
        "/d/lab/m/v1/models?a=b": "/v1/models?a=b",
        "/d/lab/m": "/",
        "/d/lab/m?q": "/?q",
    }.items():
        await rig.ask(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert code.seen[-1].target == seen
        assert code.seen[-1].header("x-forwarded-prefix") == "/d/lab/m"


async def test_a_private_deployment_wants_a_member_and_hides_what_exists(rig: Rig) -> None:
    code = Recorder()
    await rig.deploy(code, public=False)
    async with httpx.AsyncClient(base_url=rig.url) as client:

        async def ask(path: str, **headers: str) -> int:
            return (await client.get(path, headers=headers)).status_code

        assert await ask("/d/lab/m/") == 401
        assert await ask("/d/lab/m/", Authorization="Bearer nobody") == 401
        assert await ask("/d/lab/m/", Authorization="Bearer bob") == 403
        assert await ask("/d/lab/m/", Authorization="Bearer alice") == 200
        assert await ask("/d/lab/m/", Cookie="blixt_session=alice") == 200
        assert await ask("/d/lab/none/") == 401
        assert await ask("/d/lab/none/", Authorization="Bearer alice") == 404
        answer = await client.get("/d/lab/m/")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert set(answer.json()["error"]) == {"code", "message", "hint"}
    assert [seen.header("authorization") for seen in code.seen] == [None, None]
    assert [seen.header("cookie") for seen in code.seen] == [None, None]


async def test_the_console_cookie_does_not_count_for_writes_from_another_origin(rig: Rig) -> None:
    await rig.deploy(Recorder(), public=False)
    async with httpx.AsyncClient(base_url=rig.url, headers={"Cookie": "blixt_session=alice"}) as client:
        assert (await client.post("/d/lab/m/", headers={"Origin": "http://evil.example"})).status_code == 403
        assert (await client.post("/d/lab/m/", headers={"Origin": rig.url})).status_code == 200


async def test_a_public_deployment_gets_its_own_key_but_never_a_blixt_token(rig: Rig) -> None:
    code = Recorder()
    await rig.deploy(code)
    async with httpx.AsyncClient(base_url=rig.url) as client:
        await client.get("/d/lab/m/", headers={"Authorization": "Bearer its-own-key"})
        await client.get("/d/lab/m/", headers={"Authorization": "Bearer alice"})
    assert [seen.header("authorization") for seen in code.seen] == ["Bearer its-own-key", None]


async def test_pages_of_user_code_are_sandboxed_on_the_consoles_origin(rig: Rig) -> None:
    headers = b"Service-Worker-Allowed: /\r\nSet-Cookie: blixt_session=evil\r\nContent-Length: 0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\n" + headers
    await rig.deploy(Recorder(lambda seen: answer))
    async with httpx.AsyncClient(base_url=rig.url) as client:
        got = await client.get("/d/lab/m/")
        assert got.headers["content-security-policy"].startswith("sandbox")
        assert not {"set-cookie", "service-worker-allowed"} & set(got.headers)
        assert (await client.get("/d/lab/m/", headers={"Service-Worker": "script"})).status_code == 403


async def test_a_request_waits_for_the_first_replica_and_asks_for_one(rig: Rig) -> None:
    await rig.serve("a1", _named("a1"))
    rig.set_replicas(state="sleeping")
    asked = asyncio.create_task(rig.ask(POST))
    await eventually(lambda: rig.demanded == ["u1"])
    assert rig.gateway.stats()["u1"].waiting == 1
    rig.set_replicas(state="starting")
    assert not asked.done()
    rig.set_replicas("a1")
    assert (await asked).endswith(b"a1")
    stats = rig.gateway.stats()["u1"]
    assert (stats.in_flight, stats.waiting, stats.total) == (0, 0, 1)
    assert stats.last_request_at > 0


async def test_waiting_has_a_bound_and_a_deadline(rig: Rig) -> None:
    rig.set_replicas(state="sleeping", max_waiting=1, hold_s=2)
    held = asyncio.create_task(rig.ask(GET))
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    refused = await rig.ask(GET)
    assert status(refused) == 503
    assert b"retry-after: " in refused
    late = await held
    assert status(late) == 504
    assert b"retry-after: " in late
    assert rig.gateway.stats()["u1"].waiting == 0


async def test_a_waiting_client_that_leaves_is_forgotten(rig: Rig) -> None:
    rig.set_replicas(state="sleeping")
    client = await rig.connect()
    await client.send(GET)
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    client.drop()
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 0)
    code = Recorder()
    await rig.serve("a1", code)
    rig.set_replicas("a1")
    assert (await rig.ask(GET)).endswith(b"ok")
    assert len(code.seen) == 1


async def test_a_cap_on_concurrency_queues_the_rest_and_a_full_queue_is_429(rig: Rig) -> None:
    handler, release, inside = _gate()
    await rig.deploy(handler, max_concurrency=1, max_waiting=1)
    asked = [asyncio.create_task(rig.ask(GET))]
    await eventually(lambda: inside() == 1)
    asked.append(asyncio.create_task(rig.ask(GET)))
    await eventually(lambda: rig.gateway.stats()["u1"] == _counts(rig, in_flight=1, waiting=1))
    assert status(await rig.ask(GET)) == 429
    assert inside() == 1
    release.set()
    assert [status(answer) for answer in await asyncio.gather(*asked)] == [200, 200]


def _counts(rig: Rig, *, in_flight: int, waiting: int) -> Stats:
    now = rig.gateway.stats()["u1"]
    return Stats(in_flight, waiting, now.total, now.last_request_at)


@pytest.mark.parametrize("state", ["failed", "stopped"])
async def test_a_failed_or_stopped_deployment_answers_at_once_with_the_reason(rig: Rig, state: str) -> None:
    rig.set_replicas(state="sleeping")
    held = asyncio.create_task(rig.ask(GET))
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    rig.set_replicas(state=state, reason="the model does not load")
    for answer in (await held, await rig.ask(GET)):
        assert status(answer) == 503
        assert f"Deployment lab/m is {state}: the model does not load." in answer.decode()


async def test_a_deployment_that_is_deleted_lets_its_waiters_go(rig: Rig) -> None:
    rig.set_replicas(state="sleeping")
    held = asyncio.create_task(rig.ask(GET))
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    rig.table.remove("u1")
    assert status(await held) == 503
    assert rig.gateway.stats() == {}


async def test_requests_go_to_the_replica_with_the_fewest_in_flight(rig: Rig) -> None:
    slow, release, inside = _gate()
    quick = _named("quick")
    await rig.serve("slow", slow)
    await rig.serve("quick", quick)
    rig.set_replicas("slow", "quick")
    held = asyncio.create_task(rig.ask(GET))
    await eventually(lambda: inside() == 1)
    for _ in range(5):
        assert (await rig.ask(GET)).endswith(b"quick")
    release.set()
    await held


@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_replica_that_cannot_be_reached_is_passed_over_for_any_method(
    rig: Rig, request_: bytes
) -> None:
    code = _named("good")
    await rig.serve("good", code)
    rig.set_replicas("gone", "good")
    for _ in range(3):
        assert (await rig.ask(request_)).endswith(b"good")
    assert rig.dialed.count("gone") == 1  # suspect for a while
    assert code.seen[0].body == (b"body" if request_ == POST else b"")


async def test_a_get_on_a_replica_that_dies_is_repeated_on_another(rig: Rig) -> None:
    await rig.serve("dying", _die)
    await rig.serve("good", _named("good"))
    rig.set_replicas("dying", "good")
    assert (await rig.ask(GET)).endswith(b"good")
    assert rig.dialed == ["dying", "good"]


async def test_a_request_that_kills_replicas_visits_two_at_most(rig: Rig) -> None:
    for name in ("a1", "a2", "a3"):
        await rig.serve(name, _die)
    rig.set_replicas("a1", "a2", "a3")
    assert status(await rig.ask(GET)) == 502
    assert rig.dialed == ["a1", "a2"]
    assert rig.gateway.stats()["u1"].waiting == 0


async def test_a_put_is_repeated_with_its_whole_body_while_that_fits(rig: Rig) -> None:
    code = _named("good")
    await rig.serve("dying", _die)
    await rig.serve("good", code)
    rig.set_replicas("dying", "good")
    client = await rig.connect()
    await client.send(b"PUT /d/lab/m/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    await eventually(lambda: rig.dialed == ["dying", "good"])
    await client.send(b"3\r\ntwo\r\n0\r\n\r\n")
    await client.head()
    assert code.seen[0].body == b"onetwo"


async def test_a_post_that_may_have_been_acted_on_is_not_repeated(rig: Rig) -> None:
    good = Recorder()
    await rig.serve("dying", _die)
    await rig.serve("good", good)
    rig.set_replicas("dying", "good")
    answer = await rig.ask(POST)
    assert status(answer) == 502
    assert b"ended the connection before it answered" in answer
    assert good.seen == []


async def test_a_request_on_a_kept_connection_that_had_ended_is_sent_on_a_new_one(rig: Rig) -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()

    server = await rig.deploy(one)
    for _ in range(4):
        assert (await rig.ask(GET)).endswith(b"ok")
    assert server.accepted == 4


async def test_when_no_replica_answers_the_request_waits_for_a_new_one(rig: Rig) -> None:
    rig.set_replicas("gone")
    asked = asyncio.create_task(rig.ask(POST))
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    assert rig.demanded == ["u1"]
    await rig.serve("new", _named("new"))
    rig.set_replicas("gone", "new")
    assert (await asked).endswith(b"new")


async def test_a_replica_that_left_the_table_and_came_back_is_tried_again(rig: Rig) -> None:
    rig.set_replicas("a1")
    asked = asyncio.create_task(rig.ask(POST))
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    rig.set_replicas(state="starting")
    await rig.serve("a1", _named("again"))
    rig.set_replicas("a1")
    assert (await asked).endswith(b"again")


async def test_a_waiter_whom_every_replica_failed_does_not_hold_up_the_others(rig: Rig) -> None:
    rig.set_replicas("a1")
    failed = await rig.connect()
    await failed.send(POST)
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    await rig.serve("a1", _named("a1"))
    assert (await rig.ask(POST)).endswith(b"a1")
    assert rig.gateway.stats()["u1"].waiting == 1


async def test_when_no_replica_answers_for_long_the_answer_says_so() -> None:
    async with rigged(limits=Limits(recover_s=0.1)) as rig:
        rig.set_replicas("gone1", "gone2")
        answer = await rig.ask(GET)
        assert status(answer) == 502
        assert b"Deployment lab/m has no replica that answers." in answer
        assert rig.gateway.stats()["u1"].in_flight == 0


async def test_a_client_that_left_the_queue_leaves_its_place_to_the_next(rig: Rig) -> None:
    rig.set_replicas(state="sleeping", max_waiting=1)
    client = await rig.connect()
    await client.send(GET)
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    client.drop()
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 0)
    asked = asyncio.create_task(rig.ask(GET))
    await eventually(lambda: rig.gateway.stats()["u1"].waiting == 1)
    await rig.serve("a1", _named("a1"))
    rig.set_replicas("a1")
    assert (await asked).endswith(b"a1")


async def test_a_request_right_after_creation_waits_for_the_route(rig: Rig) -> None:
    await rig.serve("a1", _named("a1"))
    request = GET.replace(b"Connection", b"Authorization: Bearer alice\r\nConnection")
    asked = asyncio.create_task(rig.ask(request))
    await eventually(lambda: bool(rig.table._awaited))
    rig.set_replicas("a1", public=False)
    assert (await asked).endswith(b"a1")


async def test_every_deployment_in_the_table_has_counters(rig: Rig) -> None:
    rig.table.set_deployment(Backend("u2", "lab", "other"))
    assert rig.gateway.stats() == {"u2": Stats()}


async def test_a_deployment_made_anew_under_its_old_name_outlives_the_removal_of_the_old_one(
    rig: Rig,
) -> None:
    await rig.deploy(_named("a1"))
    rig.table.set_deployment(Backend("u9", "lab", "m", public=True, state="stopped"))
    rig.table.remove("u1")
    assert status(await rig.ask(GET)) == 503
    assert list(rig.gateway.stats()) == ["u9"]
