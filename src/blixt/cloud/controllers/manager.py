"""Runs the controllers: objects are woken by the change log, by agents and by time."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from blixt.cloud.controllers.queue import Lease, LostLease, WorkQueue
from blixt.cloud.controllers.world import Controller
from blixt.cloud.errors import CloudError, NotFound
from blixt.cloud.objects import Object, Store

PARALLEL = 8
LONGEST_SLEEP_S = 10.0
CHANGES_AT_ONCE = 500

log = logging.getLogger("blixt.controllers")


class Manager:
    """Feeds the work queue and works it off.

    Args:
        store: The objects.
        queue: The work queue.
        controllers: One controller per kind; objects of other kinds are nobody's work.
        on_change: Called with each object as it is now, and whether it is gone.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        controllers: Mapping[str, Controller],
        on_change: Callable[[Object, bool], None],
    ) -> None:
        self._on_change = on_change
        self._store = store
        self._queue = queue
        self._controllers = controllers
        self._woken: set[str] = set()
        self._wake = asyncio.Event()
        self._free = asyncio.Semaphore(PARALLEL)
        self._running: set[asyncio.Task[None]] = set()

    def wake(self, uid: str) -> None:
        """Have an object looked at soon; call it on the event loop."""
        self._woken.add(uid)
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        await asyncio.to_thread(self._queue.release_all)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._dispatch())
        finally:
            for task in list(self._running):
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _watch(self) -> None:
        """Wake every object once at the start, then each that changed."""
        async with self._store.subscribe() as subscription:
            since = await asyncio.to_thread(self._store.last_seq)
            for obj in await asyncio.to_thread(self._store.list):
                if obj.kind in self._controllers:
                    self._on_change(obj, False)
                    self.wake(obj.uid)
            while not subscription.closed:
                changes = await asyncio.to_thread(self._store.changes, since, CHANGES_AT_ONCE)
                for change in changes:
                    since = change.seq
                    if change.object.kind not in self._controllers:
                        continue
                    self._on_change(change.object, change.type == "deleted")
                    if change.type != "deleted":
                        self.wake(change.object.uid)
                if not changes:
                    await subscription.wait(None)

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            if self._woken:
                woken, self._woken = self._woken, set()
                await asyncio.to_thread(self._queue.add, woken)
            await self._free.acquire()
            lease = await asyncio.to_thread(self._queue.lease)
            if lease is None:
                self._free.release()
                await self._sleep()
                continue
            task = asyncio.create_task(self._work(lease))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._free.release()
        self._wake.set()

    async def _sleep(self) -> None:
        """Until somebody is woken or due."""
        due = await asyncio.to_thread(self._queue.next_due)
        wait_s = LONGEST_SLEEP_S if due is None else due - self._queue.now()
        # Not wait_for: before Python 3.12 that one forgets a cancellation that meets the wake-up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(wait_s, 0.0), LONGEST_SLEEP_S)):
                await self._wake.wait()

    async def _work(self, lease: Lease) -> None:
        renewing = asyncio.create_task(self._renew(lease))
        try:
            obj = await asyncio.to_thread(self._find, lease.uid)
            if obj is None:
                await asyncio.to_thread(self._queue.forget, lease.uid)
                return
            again_s = await self._controllers[obj.kind].reconcile(obj, lease)
            await asyncio.to_thread(self._queue.settle, lease, again_s)
        except LostLease as error:
            log.info("%s", error)
        except Exception as error:  # one object's trouble must not stop the others; it is tried again later
            message = error.message if isinstance(error, CloudError) else repr(error)
            log.error(
                "reconciling %s failed: %s", lease.uid, message, exc_info=not isinstance(error, CloudError)
            )
            await self._settle_failed(lease)
        finally:
            renewing.cancel()

    async def _settle_failed(self, lease: Lease) -> None:
        try:
            await asyncio.to_thread(self._queue.settle, lease, None, failed=True)
        except LostLease as error:
            log.info("%s", error)

    async def _renew(self, lease: Lease) -> None:
        """Hold the lease while a long step (a download, an upload, a grace time) runs."""
        with contextlib.suppress(LostLease):  # the work itself finds out when it writes
            while True:
                await asyncio.sleep(self._queue.lease_s / 3)
                await asyncio.to_thread(self._queue.renew, lease)

    def _find(self, uid: str) -> Object | None:
        try:
            return self._store.get_uid(uid)
        except NotFound:
            return None
