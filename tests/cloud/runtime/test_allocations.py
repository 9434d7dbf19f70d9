"""Allocations, step by step with a crash between any two: one machine, one segment, nothing forgotten."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blixt.cloud.api import Cloud, open_cloud
from blixt.cloud.controllers import Lease, LostLease, Sweeper
from blixt.cloud.controllers.runtime import Runtime
from blixt.cloud.engines import EngineError, LocalEngine
from blixt.cloud.errors import Gone, Unauthenticated
from blixt.cloud.objects import Object
from blixt.cloud.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = open_cloud(Settings(tmp_path / "data"))
    yield made
    made.close()


@pytest.fixture
async def runtime(cloud: Cloud) -> Any:
    engine = LocalEngine(cloud.settings.data_dir)
    made = Runtime(cloud, engine)
    made.url = "http://127.0.0.1:9"
    yield made
    for machine in engine.list():
        engine.release(machine.token)
    engine.close()


def _job(cloud: Cloud, name: str = "job") -> Object:
    return cloud.store.create("job", "default", name, {"command": "true"}, owner="admin", actor="admin")


def _lease(runtime: Runtime, obj: Object) -> Lease:
    runtime.queue.add([obj.uid])
    lease = runtime.queue.lease()
    assert lease is not None
    return lease


async def test_a_crash_after_the_start_finds_the_same_machine(runtime: Runtime, cloud: Cloud) -> None:
    job = _job(cloud)
    lease = _lease(runtime, job)
    wanted = runtime.allocations.request(job, lease, part="0", attempt=1)
    live = runtime.allocations.start(wanted, job)
    # As if the server had died before it wrote that down: the row still says "requested".
    again = runtime.allocations.start(replace(live, state="requested"), job)
    assert again.id == live.id
    assert [machine.token for machine in runtime.world.engine.list()] == [live.id]
    assert runtime.allocations.request(job, lease, part="0", attempt=1).state == "live"
    runtime.allocations.end(again, "done")
    assert cloud.money.bill("default").lines[0].segments == 1


async def test_ending_twice_closes_the_segment_once(runtime: Runtime, cloud: Cloud) -> None:
    job = _job(cloud)
    live = runtime.allocations.start(
        runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1), job
    )
    runtime.allocations.end(live, "first")
    charged = cloud.money.bill("default").total_uc
    runtime.allocations.end(live, "second")
    assert cloud.money.bill("default").total_uc == charged
    ended = runtime.allocations.get(live.id)
    assert ended is not None
    assert (ended.state, ended.reason) == ("ended", "first")


async def test_a_machine_that_does_not_start_gives_its_money_back(
    runtime: Runtime, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {"limit_uc": 10**9, "period": "total"}
    cloud.store.create("budget", "default", "all", budget, owner="admin", actor="admin")
    job = _job(cloud)
    wanted = runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1)
    assert cloud.money.budget_uses("default")[0].held_uc > 0

    def refuse(*_: object) -> None:
        raise EngineError("no room")

    monkeypatch.setattr(runtime.world.engine, "allocate", refuse)
    with pytest.raises(EngineError, match="no room"):
        runtime.allocations.start(wanted, job)
    assert cloud.money.budget_uses("default")[0].held_uc == 0
    assert cloud.money.bill("default").lines == []


async def test_a_worker_that_lost_its_lease_asks_for_nothing(runtime: Runtime, cloud: Cloud) -> None:
    job = _job(cloud)
    lease = _lease(runtime, job)
    runtime.queue.release_all()
    with pytest.raises(LostLease):
        runtime.allocations.request(job, lease, part="0", attempt=1)
    assert runtime.allocations.of(job.uid) == []


async def test_an_agents_token_opens_its_own_allocation_only_while_it_lasts(
    runtime: Runtime, cloud: Cloud
) -> None:
    job = _job(cloud)
    wanted = runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1)
    token = runtime.allocations.agent_token(wanted.id)
    assert runtime.allocations.attach(token).uid == job.uid
    for wrong in ("", "x", token + "0", token.replace(wanted.id, "other")):
        with pytest.raises(Unauthenticated):
            runtime.allocations.attach(wrong)
    runtime.allocations.end(wanted, "over")
    with pytest.raises(Gone):
        runtime.allocations.attach(token)


async def test_the_workloads_token_dies_with_its_allocation(runtime: Runtime, cloud: Cloud) -> None:
    job = _job(cloud)
    wanted = runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1)
    first = runtime.allocations.issue_token(wanted, "admin")
    second = runtime.allocations.issue_token(wanted, "admin")
    assert cloud.identity.authenticate(first) is None
    principal = cloud.identity.authenticate(second)
    assert principal is not None
    assert (list(principal.roles), principal.is_admin) == (["default"], False)
    runtime.allocations.end(wanted, "over")
    assert cloud.identity.authenticate(second) is None


async def test_the_sweeper_releases_what_nothing_explains(runtime: Runtime, cloud: Cloud) -> None:
    kept, lost = _job(cloud, "kept"), _job(cloud, "lost")
    kept_one, lost_one = (
        runtime.allocations.start(
            runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1), job
        )
        for job in (kept, lost)
    )
    with cloud.db.write() as s:
        s.exec_driver_sql("DELETE FROM allocations WHERE id = ?", (lost_one.id,))
    await Sweeper(runtime.world, runtime.wake).sweep()
    assert [machine.token for machine in runtime.world.engine.list()] == [kept_one.id]


async def test_the_sweeper_ends_allocations_whose_object_is_gone(runtime: Runtime, cloud: Cloud) -> None:
    job = _job(cloud)
    runtime.allocations.start(
        runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1), job
    )
    cloud.store.delete(job.uid, "admin")  # no controller ran, so no finalizer holds it
    await Sweeper(runtime.world, runtime.wake).sweep()
    assert runtime.allocations.unended() == []
    assert runtime.world.engine.list() == []


async def test_what_cannot_be_paid_is_marked_and_its_object_woken(
    runtime: Runtime, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(cloud)
    wanted = runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1)
    monkeypatch.setattr(cloud.money, "extend_holds", lambda now: [wanted.id])
    woken: list[str] = []
    await Sweeper(runtime.world, woken.append).enforce_holds()
    marked = runtime.allocations.get(wanted.id)
    assert marked is not None
    assert marked.reason == "The budget is used up."
    assert woken == [job.uid]


async def test_an_allocation_that_ends_while_its_machine_starts_leaves_no_machine(
    runtime: Runtime, cloud: Cloud
) -> None:
    job = _job(cloud)
    wanted = runtime.allocations.request(job, _lease(runtime, job), part="0", attempt=1)
    runtime.allocations.end(wanted, "The server was shut down.")  # as while another thread was starting it
    with pytest.raises(EngineError, match="ended while its machine started"):
        runtime.allocations.start(wanted, job)
    assert runtime.world.engine.list() == []
    ended = runtime.allocations.get(wanted.id)
    assert ended is not None
    assert ended.state == "ended"
    assert cloud.money.bill("default").lines == []
