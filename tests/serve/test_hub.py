"""The hub with real links over socket pairs; the test plays the worker at their other end."""

import asyncio
import socket

import msgspec
import pytest

from blixt.serve.batching import Policy
from blixt.serve.config import Limits
from blixt.serve.errors import Failure
from blixt.serve.hub import Hub
from blixt.serve.hub_rules import Rules
from blixt.serve.link import Link
from blixt.serve.metrics import ApiMetrics
from blixt.serve.page import Page
from blixt.serve.request import Rejected
from blixt.serve.wire import FrameReader, Kind, encode

pytestmark = pytest.mark.anyio


class Client:
    """A sink that notes what it gets."""

    def __init__(self):
        self.got = []
        self.done = asyncio.Event()

    def deliver(self, kind, payload):
        self.got.append((kind, payload))
        if kind != Kind.CHUNK:
            self.done.set()

    async def status(self):
        await asyncio.wait_for(self.done.wait(), 60)
        kind, payload = self.got[-1]
        return msgspec.json.decode(payload, type=Failure).status if kind == Kind.ERROR else 200


class FakeWorker:
    """The far end of a link."""

    def __init__(self, hub, link, far):
        self.hub, self.link, self.far = hub, link, far
        self.reader = FrameReader()
        self.frames = []

    async def frame(self):
        loop = asyncio.get_running_loop()
        while not self.frames:
            data = await asyncio.wait_for(loop.sock_recv(self.far, 1 << 16), 60)
            self.frames += self.reader.feed(data)
        return [(kind, payload, id) for id, kind, payload in self.frames.pop(0).messages]

    async def bodies(self):
        return [payload for _, payload, _ in await self.frame()]

    async def reply(self, *messages):
        await asyncio.get_running_loop().sock_sendall(self.far, encode(messages))

    def die(self):
        self.far.close()


class Rig:
    def __init__(self, policy=Policy(), rules=Rules(), **limits):
        self.killed = []
        self.metrics = ApiMetrics()
        self.hub = Hub(policy, Limits(**limits), self.metrics, self.killed.append, rules)

    async def worker(self):
        near, far = socket.socketpair()
        far.setblocking(False)
        link = Link(Page.create(), self.hub.on_message, self.hub.detach, self.hub.on_busy)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=near)
        self.hub.attach(link)
        return FakeWorker(self.hub, link, far)

    def ask(self, body=b"x", **options):
        client = Client()
        return client, self.hub.submit(body, client, **options)


async def test_requests_of_one_turn_travel_in_one_frame():
    rig = Rig()
    worker = await rig.worker()
    rig.ask(b"a"), rig.ask(b"b")
    assert await worker.bodies() == [b"a", b"b"]


async def test_a_full_queue_is_429_with_a_time_to_come_back():
    rig = Rig(max_queue=2)
    rig.ask(), rig.ask()
    with pytest.raises(Rejected) as refused:
        rig.ask()
    assert refused.value.failure.status == 429
    assert int(refused.value.failure.headers["retry-after"]) >= 1


async def test_the_queue_is_bounded_in_bytes_too():
    rig = Rig(max_queue_bytes=10)
    rig.ask(b"12345678")
    with pytest.raises(Rejected):
        rig.ask(b"12345678")


async def test_work_goes_to_the_worker_that_has_least():
    rig = Rig()
    first, second = await rig.worker(), await rig.worker()
    for body in (b"a", b"b", b"c", b"d"):
        rig.ask(body)
    assert sorted(await first.bodies() + await second.bodies()) == [b"a", b"b", b"c", b"d"]
    assert len(first.link.in_flight) == len(second.link.in_flight) == 2


async def test_a_slow_worker_holds_two_requests_and_the_rest_wait():
    rig = Rig()
    worker = await rig.worker()
    for body in (b"a", b"b", b"c"):
        rig.ask(body)
    assert await worker.bodies() == [b"a", b"b"]
    assert rig.metrics.gauges["queue_depth"]() == 1


async def test_a_queued_request_whose_client_left_is_never_sent():
    rig = Rig()
    _, request = rig.ask(b"gone")
    rig.hub.cancel(request)
    rig.ask(b"here")
    assert await (await rig.worker()).bodies() == [b"here"]


async def test_a_running_request_whose_client_left_is_cancelled_at_the_worker():
    rig = Rig()
    worker = await rig.worker()
    client, request = rig.ask()
    await worker.frame()
    rig.hub.cancel(request)
    assert await worker.frame() == [(Kind.CANCEL, b"", request.id)]
    await worker.reply((request.id, Kind.END, b""))
    assert client.got == []


async def test_a_queued_request_is_504_at_its_deadline():
    rig = Rig(timeout_s=0.05)
    client, _ = rig.ask()
    assert await client.status() == 504


async def test_a_running_request_is_504_and_a_worker_that_hangs_is_killed():
    rig = Rig(timeout_s=0.05, kill_grace_s=0.05)
    worker = await rig.worker()
    client, _ = rig.ask()
    assert await client.status() == 504
    async with asyncio.timeout(60):
        while not rig.killed:
            await asyncio.sleep(0.01)
    assert rig.killed == [worker.link]


async def test_a_worker_that_ends_within_the_grace_lives():
    rig = Rig(timeout_s=0.05, kill_grace_s=60)
    worker = await rig.worker()
    client, request = rig.ask()
    assert await client.status() == 504
    await worker.reply((request.id, Kind.END, b""))
    async with asyncio.timeout(60):
        while worker.link.in_flight:
            await asyncio.sleep(0.01)
    assert request.kill_timer is not None
    assert request.kill_timer.cancelled()


async def test_progress_of_a_stream_moves_its_deadline():
    rig = Rig(Policy(slots=4), timeout_s=10)
    worker = await rig.worker()
    client, request = rig.ask()
    before = request.deadline
    await worker.reply((request.id, Kind.CHUNK, b"1"))
    async with asyncio.timeout(60):
        while not client.got:
            await asyncio.sleep(0.001)
    assert request.deadline > before


async def test_when_a_worker_dies_begun_requests_fail_and_the_rest_is_done_elsewhere():
    rig = Rig()
    first = await rig.worker()
    begun, _ = rig.ask(b"begun")
    waiting, waiting_request = rig.ask(b"waiting")
    await first.frame()
    first.link.page.started = 1
    first.die()
    assert await begun.status() == 503
    second = await rig.worker()
    assert await second.bodies() == [b"waiting"]
    await second.reply((waiting_request.id, Kind.OK, b"{}"))
    assert await waiting.status() == 200


async def test_draining_refuses_new_requests_and_finishes_old_ones():
    rig = Rig()
    worker = await rig.worker()
    client, request = rig.ask()
    drain = asyncio.create_task(rig.hub.drain(60))
    await worker.frame()
    with pytest.raises(Rejected) as refused:
        rig.ask()
    assert refused.value.failure.status == 503
    await worker.reply((request.id, Kind.OK, b"1"))
    await asyncio.wait_for(drain, 60)
    assert await client.status() == 200


async def test_draining_ends_at_its_deadline_even_if_work_does_not():
    rig = Rig()
    await rig.worker()
    client, _ = rig.ask()
    await rig.hub.drain(0.05)
    assert await client.status() == 503


async def test_a_hub_without_hope_refuses_at_once():
    rig = Rig()
    client, _ = rig.ask()
    rig.hub.die("no weights")
    assert await client.status() == 503
    with pytest.raises(Rejected, match="no weights"):
        rig.ask()


async def test_a_partial_batch_leaves_when_the_oldest_has_waited_long_enough():
    rig = Rig(Policy(max_batch_size=4, batch_timeout_s=0.05))
    worker = await rig.worker()
    rig.ask(b"a"), rig.ask(b"b")
    assert await worker.bodies() == [b"a", b"b"]


async def test_while_a_batch_runs_the_next_one_grows_and_full_ones_are_prefetched():
    rig = Rig(Policy(max_batch_size=2))
    worker = await rig.worker()
    _, first = rig.ask(b"a")
    assert await worker.bodies() == [b"a"]
    rig.ask(b"b")
    await asyncio.sleep(0)
    assert len(worker.link.in_flight) == 1
    rig.ask(b"c")
    assert await worker.bodies() == [b"b", b"c"]
    assert first.id in worker.link.in_flight


async def test_the_more_urgent_goes_first_and_equals_keep_their_order():
    rig = Rig()
    rig.ask(b"a"), rig.ask(b"low", priority=-5), rig.ask(b"b"), rig.ask(b"high", priority=5)
    worker = await rig.worker()
    assert await worker.bodies() == [b"high", b"a"]
    assert [request.body for request in rig.hub._queue] == [b"b", b"low"]


async def test_an_api_can_say_how_urgent_a_request_is():
    def priority(request):
        return request.json()["urgency"]

    rig = Rig(rules=Rules(priority=priority))
    rig.ask(b'{"urgency": 1}'), rig.ask(b'{"urgency": 99}')
    assert await (await rig.worker()).bodies() == [b'{"urgency": 99}', b'{"urgency": 1}']
    with pytest.raises(Rejected) as refused:
        rig.ask(b"no json")
    assert refused.value.failure.status == 400
    with pytest.raises(Rejected) as refused:
        rig.ask(b"{}")
    assert refused.value.failure.status == 500


async def test_a_batch_is_full_when_its_costs_reach_the_bound():
    rig = Rig(Policy(max_batch_size=8, max_cost=10, batch_timeout_s=60), Rules(cost=lambda r: r.size_bytes))
    worker = await rig.worker()
    rig.ask(b"1" * 4), rig.ask(b"2" * 4), rig.ask(b"3" * 4), rig.ask(b"4" * 50), rig.ask(b"5")
    assert await worker.bodies() == [b"1" * 4, b"2" * 4]
    assert worker.link.service_s == 0.0


async def test_a_client_in_a_hurry_is_504_at_its_own_deadline():
    rig = Rig(timeout_s=60)
    client, _ = rig.ask(timeout_s=0.05)
    assert await client.status() == 504
    _, request = rig.ask(timeout_s=1000)
    assert request.deadline - request.admitted_at == 60


async def test_without_a_running_timeout_only_what_waits_can_be_late_wherever_it_waits():
    rig = Rig(timeout_s=0.05, kill_grace_s=0.05, running_timeout=False)
    worker = await rig.worker()
    running = rig.ask(b"runs")
    worker.link.page.started = 1
    await worker.frame()
    prefetched, _ = rig.ask(b"prefetched")
    waiting, _ = rig.ask(b"waits")
    assert await prefetched.status() == 504
    assert await waiting.status() == 504
    client, request = running
    assert client.got == []
    await worker.reply((request.id, Kind.OK, b"1"))
    assert await client.status() == 200


async def test_a_worker_is_not_killed_for_a_late_request_that_it_has_not_begun():
    rig = Rig(timeout_s=0.05, kill_grace_s=0.01, running_timeout=False)
    worker = await rig.worker()
    rig.ask(b"runs")
    worker.link.page.started = 1
    late, request = rig.ask(b"prefetched")
    assert await late.status() == 504
    first_timer = request.kill_timer
    while request.kill_timer is first_timer:  # it was looked at, and may stay
        await asyncio.sleep(0)
    assert rig.killed == []
    worker.link.page.started = 2
    while not rig.killed:
        await asyncio.sleep(0)


async def test_a_request_is_tried_again_after_a_crash_only_if_asked_and_not_for_ever():
    rig = Rig(Policy(retries=1))
    first = await rig.worker()
    client, _request = rig.ask(b"poison")
    await first.frame()
    first.link.page.started = 1
    first.die()
    second = await rig.worker()
    assert await second.bodies() == [b"poison"]
    second.link.page.started = 1
    second.die()
    assert await client.status() == 503


async def test_a_stream_that_has_begun_to_answer_is_never_tried_again():
    rig = Rig(Policy(retries=3, slots=4, stream=True))
    worker = await rig.worker()
    client, request = rig.ask()
    await worker.frame()
    worker.link.page.started = 1
    await worker.reply((request.id, Kind.CHUNK, b"1"))
    worker.die()
    assert await client.status() == 503


async def test_the_503_of_a_begun_request_says_that_it_was_begun():
    rig = Rig()
    worker = await rig.worker()
    client, _ = rig.ask()
    await worker.frame()
    worker.link.page.started = 1
    worker.die()
    assert await client.status() == 503
    assert msgspec.json.decode(client.got[0][1])["headers"]["x-blixt-began"] == "1"


async def test_a_retired_worker_finishes_what_it_has_and_is_let_go():
    rig = Rig()
    old = await rig.worker()
    client, request = rig.ask(b"old")
    await old.frame()
    new = await rig.worker()
    rig.hub.retire(old.link)
    rig.ask(b"new")
    assert await new.bodies() == [b"new"]
    assert old.link.is_open
    await old.reply((request.id, Kind.OK, b"1"))
    assert await client.status() == 200
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(old.far, 1), 60) == b""


class Shared:
    """A body in shared memory, as far as the hub looks."""

    descriptor = b"\0" * 16

    def __init__(self):
        self.released = 0

    def __len__(self):
        return 100_000

    def release(self):
        self.released += 1


async def test_a_shared_body_is_released_once_after_the_answer():
    rig = Rig()
    worker = await rig.worker()
    body = Shared()
    client, request = rig.ask(body)
    assert await worker.frame() == [(Kind.SLAB, body.descriptor, request.id)]
    assert body.released == 0
    await worker.reply((request.id, Kind.OK, b"1"))
    assert await client.status() == 200
    assert body.released == 1


async def test_a_shared_body_is_released_when_it_is_dropped_from_the_queue_or_its_worker_dies():
    rig = Rig()
    dropped, lost = Shared(), Shared()
    _, request = rig.ask(dropped)
    rig.hub.cancel(request)
    assert dropped.released == 1
    worker = await rig.worker()
    client, _ = rig.ask(lost)
    await worker.frame()
    worker.link.page.started = 1
    worker.die()
    assert await client.status() == 503
    assert lost.released == 1


async def test_a_shared_body_stays_while_its_request_waits_for_another_worker():
    rig = Rig()
    worker = await rig.worker()
    body = Shared()
    rig.ask(body)
    await worker.frame()
    worker.die()
    other = await rig.worker()
    assert (await other.frame())[0][0] == Kind.SLAB
    assert body.released == 0


async def test_what_a_websocket_says_before_a_worker_has_it_is_not_lost():
    rig = Rig()
    _client, request = rig.ask(b"{}", kind=Kind.OPEN)
    rig.hub.send(request, Kind.DATA, b"thello")
    worker = await rig.worker()
    assert await worker.frame() == [(Kind.OPEN, b"{}", request.id)]
    assert await worker.frame() == [(Kind.DATA, b"thello", request.id)]
    rig.hub.send(request, Kind.CLOSE, b"\x03\xe8")
    assert await worker.frame() == [(Kind.CLOSE, b"\x03\xe8", request.id)]


async def test_meta_travels_before_its_request():
    rig = Rig()
    worker = await rig.worker()
    _, _request = rig.ask(b"x", meta=b'{"content_type":"text/plain"}')
    assert [kind for kind, _, _ in await worker.frame()] == [Kind.META, Kind.REQUEST]


async def test_callbacks_hear_of_requests_and_responses():
    heard = []
    rules = Rules(
        on_request=(lambda n: heard.append(("request", n)),),
        on_response=(lambda n: heard.append(("response", n)),),
    )
    rig = Rig(rules=rules)
    worker = await rig.worker()
    client, request = rig.ask()
    await worker.frame()
    await worker.reply((request.id, Kind.OK, b"1"))
    await client.status()
    assert heard == [("request", 1), ("response", 0)]
