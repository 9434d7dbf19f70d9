"""Which waiting requests go to which worker: looked at once a turn of the loop, if something has changed."""

import asyncio
from collections.abc import Callable

from blixt.serve.batching import Policy, affordable, batch_now, credit
from blixt.serve.hub_queue import Queue
from blixt.serve.link import Link
from blixt.serve.request import Request


class Dispatch:
    """Hands requests to workers as the policy says.

    Args:
        policy: How requests are grouped.
        queue: Who waits.
        links: Workers that take requests; the hub's own list, which it changes.
        send: Called with a worker and what it gets.
    """

    def __init__(
        self,
        policy: Policy,
        queue: Queue,
        links: list[Link],
        send: Callable[[Link, list[Request]], None],
    ) -> None:
        self.due = False
        self._policy = policy
        self._queue = queue
        self._links = links
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._hand_out = self._batches if policy.batched else self._singles

    def soon(self) -> None:
        """Look in this turn of the loop, after all that is parsed in it: that shares frames."""
        if not self.due:
            self.due = True
            self._loop.call_soon(self._look)

    def close(self) -> None:
        """Drop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self.due = False
        if self._queue.count and self._links:
            self._hand_out()

    def _singles(self) -> None:
        queue, policy = self._queue, self._policy
        rooms = [(len(x.in_flight), credit(policy, x.service_s), x) for x in self._links]
        if len(rooms) == 1:
            load, most, link = rooms[0]
            count = min(queue.count, most - load)
            if count > 0:
                self._send(link, [queue.pop() for _ in range(count)])
            return
        outbox: dict[Link, list[Request]] = {}
        load = {link: held for held, _, link in rooms}
        room = {link: most - held for held, most, link in rooms}
        while queue.count:
            link = min((link for link in self._links if room[link] > 0), key=load.__getitem__, default=None)
            if link is None:
                break
            outbox.setdefault(link, []).append(queue.pop())
            room[link] -= 1
            load[link] += 1
        for link, requests in outbox.items():
            self._send(link, requests)

    def _batches(self) -> None:
        now, queue, policy = self._loop.time(), self._queue, self._policy
        for link in sorted(self._links, key=lambda link: len(link.in_flight)):
            while queue.count:
                waiting, full = queue.count, None
                if policy.max_cost:
                    waiting, full = affordable(policy, (request.cost for request in queue))
                oldest_s = now - queue.oldest_at()
                count = batch_now(policy, waiting, oldest_s, len(link.in_flight), full=full)
                if not count:
                    if oldest_s < policy.batch_timeout_s:
                        self._look_again(policy.batch_timeout_s - oldest_s)
                    break
                self._send(link, [queue.pop() for _ in range(count)])

    def _look_again(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, delay_s) + 1e-4, self._look)
