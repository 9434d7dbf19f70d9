import asyncio

import httpx
import pytest

from blixt.serve import Server
from blixt.serve.testing import running, wait_until

from .apis import ShortBatch

pytestmark = pytest.mark.anyio


async def gather(service, path, values):
    limits = httpx.Limits(max_connections=len(values))
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60) as client:
        return await asyncio.gather(*(client.post(path, json=value) for value in values))


async def test_requests_that_wait_together_are_predicted_together(service, tmp_path):
    async def until_in_flight(count):
        metric = "blixt_serve_in_flight"
        await asyncio.to_thread(
            wait_until, lambda: service.metric(metric, api="/batched") == count, 60, f"{count} requests"
        )

    before = service.metric("blixt_serve_batch_size_count", api="/batched")
    gate = tmp_path / "gate"
    opener = asyncio.create_task(gather(service, "/batched", [[str(gate)]]))
    await until_in_flight(1)
    asked = asyncio.create_task(gather(service, "/batched", list(range(40))))
    await until_in_flight(41)
    gate.touch()
    await opener
    answers = [a.json() for a in await asked]
    assert [value for value, _ in answers] == list(range(40))
    sizes = [size for _, size in answers]
    assert max(sizes) == 8
    assert sum(1 / size for size in sizes) < 20  # fewer than 20 batches for 40 requests
    assert service.metric("blixt_serve_batch_size_count", api="/batched") - before < 20


async def test_one_undecodable_request_does_not_spoil_its_batch(service):
    answers = await gather(service, "/batched", [1, "two", 3])
    assert [a.status_code for a in answers] == [200, 422, 200]


async def test_an_error_of_predict_is_everyones_in_the_batch(service):
    answers = await gather(service, "/batched", [-1] * 3)
    assert [a.status_code for a in answers] == [422] * 3


async def test_a_batch_with_an_output_missing_is_a_500_for_all_and_explained_in_the_log(capfd):
    with running(Server(ShortBatch(max_batch_size=4), accelerator="cpu")) as service:
        answers = await gather(service, "/predict", [1, 2])
        assert [a.status_code for a in answers] == [500, 500]
    assert "must return one output for each input" in capfd.readouterr().err
