"""The manager ends when it is told to, whatever else happens in that moment."""

import asyncio
from pathlib import Path

import pytest

from blixt.cloud.controllers.manager import Manager
from blixt.cloud.controllers.queue import WorkQueue
from blixt.cloud.db import Database
from blixt.cloud.objects import Store

pytestmark = pytest.mark.anyio


class AskedQueue(WorkQueue):
    """A queue that says when it was asked for the next due time, after which the manager sleeps."""

    asked: asyncio.Event
    loop: asyncio.AbstractEventLoop

    def next_due(self) -> float | None:
        due = super().next_due()
        self.loop.call_soon_threadsafe(self.asked.set)
        return due


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancellation_that_meets_a_wake_up_ends_it(tmp_path: Path, turns: int) -> None:
    db = Database(f"sqlite:///{tmp_path / 'm.db'}")
    store, queue = Store(db), AskedQueue(db, "server")
    queue.asked, queue.loop = asyncio.Event(), asyncio.get_running_loop()
    manager = Manager(store, queue, {}, lambda obj, gone: None)
    working = asyncio.create_task(manager.run())
    await queue.asked.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    manager.wake("an object")
    working.cancel()
    ended, _ = await asyncio.wait({working}, timeout=30)
    assert ended == {working}
    assert working.cancelled()
    store.close()
    db.close()
