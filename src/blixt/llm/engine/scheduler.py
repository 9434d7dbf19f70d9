"""Who computes what in the next step: pure decisions over requests and blocks, no tensors.

A request has `tokens`, of which `computed` are in the cache. Every step gives some requests a few more: one
that only lacks its newest token decodes, one that lacks more is a prompt in chunks (or one that lost its
blocks and computes them again). All share one budget of tokens.
"""

import heapq
from dataclasses import dataclass

from blixt.llm.engine.blocks_tables import CacheBlocks
from blixt.llm.engine.request import Request, State
from blixt.llm.errors import EngineFull


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of a step: compute `count` tokens of a request from position `start`.

    Attributes:
        request: Whose tokens.
        start: First position.
        count: How many, drafts included.
        samples: Whether its newest known token is among them, so that a new one is drawn.
    """

    request: Request
    start: int
    count: int
    samples: bool


class Scheduler:
    """Keeps the queue and the running requests, and plans steps.

    Args:
        blocks: The cache's bookkeeping.
        max_batch: Most requests running at once.
        max_tokens: Most tokens in a step.
        max_waiting: Most requests in the queue.
    """

    def __init__(self, blocks: CacheBlocks, max_batch: int, max_tokens: int, max_waiting: int) -> None:
        self.blocks = blocks
        self.max_batch = max_batch
        self.max_tokens = max_tokens
        self.max_waiting = max_waiting
        self.running: list[Request] = []
        self._queue: list[tuple[tuple[int, int], Request]] = []
        self._waiting = 0
        self.preemptions = 0

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._waiting

    def check_room(self, count: int) -> None:
        """Refuse `count` more requests when the queue has no place for them.

        Raises:
            EngineFull: It has not.
        """
        if self._waiting + count > self.max_waiting:
            raise EngineFull(
                f"{self._waiting} requests wait, of {self.max_waiting} (max_waiting): try again later"
            )

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._push(request)

    def remove(self, request: Request) -> None:
        """Take a request out, whatever it is doing, and free its blocks."""
        if request.state is State.WAITING:
            self._waiting -= 1
            self._forget_cancelled(request)
        elif request.state is State.RUNNING:
            self.running.remove(request)
        request.state = State.FINISHED
        self.blocks.free(request)

    def preempt(self, request: Request) -> None:
        """Send a running request back to the queue without its blocks; it will compute them again."""
        self.running.remove(request)
        self.blocks.free(request)
        request.drafts.clear()
        request.preemptions += 1
        self.preemptions += 1
        self._push(request)

    def plan(self) -> list[Slice]:
        """Choose the next step's tokens and reserve their blocks.

        Urgent requests first, and at equal priority those that decode, so that nobody's answer stutters
        behind somebody's long prompt. Blocks that this step fills can be shared within it: a step writes
        all keys and values of a layer before it reads them.
        """
        plan: dict[int, Slice] = {}
        budget = self.max_tokens
        for request in sorted(self.running, key=lambda r: (r.order[0], not r.decoding, r.order)):
            budget -= self._admit_all(budget, plan, before=request.order[0])
            if budget and request.state is State.RUNNING:
                budget -= self._continue(request, budget, plan)
        self._admit_all(budget, plan)
        return list(plan.values())

    def _admit_all(self, budget: int, plan: dict[int, Slice], before: int | None = None) -> int:
        """Start waiting requests, those of a priority below `before`; gives the tokens they take."""
        spent = 0
        while spent < budget and (head := self._head()) is not None:
            urgent = before is None or head.order[0] < before
            taken = self._admit(head, budget - spent, plan) if urgent else 0
            if not taken:
                break
            spent += taken
        return spent

    def _push(self, request: Request) -> None:
        request.state = State.WAITING
        self._waiting += 1
        heapq.heappush(self._queue, (request.order, request))

    def _forget_cancelled(self, request: Request) -> None:
        """An entry of the heap is skipped when it comes up; when most are such, they are taken out."""
        request.state = State.FINISHED
        if len(self._queue) > 2 * self._waiting + 64:
            self._queue = [entry for entry in self._queue if entry[1].state is State.WAITING]
            heapq.heapify(self._queue)

    def _head(self) -> Request | None:
        while self._queue:
            if self._queue[0][1].state is State.WAITING:
                return self._queue[0][1]
            heapq.heappop(self._queue)
        return None

    def _continue(self, request: Request, budget: int, plan: dict[int, Slice]) -> int:
        """Plan more of a running request; gives the tokens it takes."""
        if not request.decoding:
            self._share(request)
        count = self._wanted(request, budget)
        while not self.blocks.reserve(request, request.computed + count):
            if request.drafts:  # nobody loses his blocks to a guess
                request.drafts.clear()
                count = self._wanted(request, budget)
                continue
            victim = self._worst(plan)
            if victim is None or victim is request:
                if victim is request and plan:
                    self.preempt(request)
                return 0
            self.preempt(victim)
        return self._enter(request, count, plan)

    def _admit(self, request: Request, budget: int, plan: dict[int, Slice]) -> int:
        """Start a waiting request if there is room, or somebody less urgent to make some."""
        while True:
            if len(self.running) < self.max_batch and (taken := self._start(request, budget, plan)):
                return taken
            victim = self._worst(plan)
            if victim is None or victim.order[0] <= request.order[0]:
                return 0
            self.preempt(victim)

    def _start(self, request: Request, budget: int, plan: dict[int, Slice]) -> int:
        self._share(request)
        count = self._wanted(request, budget)
        # Room for one more block of everybody: who just came in shall not be sent back in the next step.
        if not self.blocks.reserve(request, request.computed + count, spare=len(self.running)):
            self.blocks.free(request)
            if not request.preemptions:
                request.cached = 0
            return 0
        heapq.heappop(self._queue)
        self._waiting -= 1
        request.state = State.RUNNING
        self.running.append(request)
        return self._enter(request, count, plan)

    def _share(self, request: Request) -> None:
        if request.sampling.prompt_logprobs is not None and request.computed < request.prompt_tokens:
            return  # its prompt's logits are asked for, so they must be computed
        found = self.blocks.share(request)
        if found and not request.preemptions and not request.count:
            request.cached += found

    def _wanted(self, request: Request, budget: int) -> int:
        return min(len(request.tokens) + len(request.drafts) - request.computed, budget)

    def _enter(self, request: Request, count: int, plan: dict[int, Slice]) -> int:
        end = request.computed + count
        samples = end >= len(request.tokens)
        del request.drafts[max(0, end - len(request.tokens)) :]  # those that the budget leaves out
        plan[id(request)] = Slice(request, request.computed, count, samples)
        self.blocks.name(request, end)
        return count

    def _worst(self, plan: dict[int, Slice]) -> Request | None:
        """The least urgent running request that the plan does not count on."""
        others = [request for request in self.running if id(request) not in plan]
        return max(others, key=lambda request: request.order, default=None)
