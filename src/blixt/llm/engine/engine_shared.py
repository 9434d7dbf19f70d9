"""One engine for several threads: each waits for its own requests, and whoever waits computes for all."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from blixt.llm.engine.engine import Engine
from blixt.llm.engine.request import Update, names
from blixt.llm.sampling import Sampling


class News(NamedTuple):
    """An update and whose it is: the number of the prompt, and of the answer to it."""

    prompt: int
    answer: int
    update: Update


class SharedEngine:
    """Runs requests, from any thread.

    There is no thread of its own: a thread that finds no news of its requests takes the lock and steps the
    engine, which brings everybody's news. So requests of all threads share the batch.

    Args:
        engine: Not used by others meanwhile.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = threading.Lock()
        self._news: dict[str, deque[Update]] = {}
        self._left: deque[str] = deque()  # requests whose callers are gone

    def run(self, prompts: Sequence[Sequence[int]], sampling: Sampling, **options: Any) -> Iterator[News]:
        """Answer prompts; more than the queue holds enter it as it empties.

        When the caller stops early, or something raises, what still runs is cancelled.

        Args:
            prompts: Token ids.
            sampling: Of all of them.
            **options: See `Engine.add`.

        Raises:
            PromptError: A prompt or a setting is impossible.
        """
        going: dict[str, tuple[int, int]] = {}
        entered = 0
        try:
            while going or entered < len(prompts):
                with self._lock:
                    self._cancel_left()
                    while entered < len(prompts) and self._has_room(sampling.n, lone=not going):
                        going.update(self._enter(entered, prompts[entered], sampling, options))
                        entered += 1
                    found = self._take(list(going))
                for update in found:
                    place = going[update.uid]
                    if update.finish_reason is not None:
                        del going[update.uid]
                        with self._lock:
                            del self._news[update.uid]
                    yield News(*place, update)
        finally:
            self._left.extend(going)
            # This may run inside another request's step, when garbage collection ends a stream that somebody
            # dropped: waiting for the lock there would be for ever. Whoever steps next does it then.
            if self._lock.acquire(blocking=False):
                try:
                    self._cancel_left()
                finally:
                    self._lock.release()

    def locked(self) -> threading.Lock:
        """Hold this to use the engine or the model alone for a while."""
        return self._lock

    def _cancel_left(self) -> None:
        while self._left:
            uid = self._left.popleft()
            self.engine.cancel(uid)
            self._news.pop(uid, None)

    def _has_room(self, count: int, *, lone: bool) -> bool:
        """Whether the queue takes `count` more; who has nothing running yet is told by an error instead."""
        return lone or self.engine.scheduler.waiting + count <= self.engine.config.max_waiting

    def _enter(
        self, number: int, prompt: Sequence[int], sampling: Sampling, options: dict[str, Any]
    ) -> dict[str, tuple[int, int]]:
        uids = names(self.engine.add(prompt, sampling, **options), sampling.n)
        self._news.update((uid, deque()) for uid in uids)
        return {uid: (number, answer) for answer, uid in enumerate(uids)}

    def _take(self, uids: Sequence[str]) -> list[Update]:
        """News of some requests; when there are none, of one more step."""
        if not any(self._news[uid] for uid in uids):
            for update in self.engine.step():
                if update.uid in self._news:
                    self._news[update.uid].append(update)
        found: list[Update] = []
        for uid in uids:
            found += self._news[uid]
            self._news[uid].clear()
        return found
