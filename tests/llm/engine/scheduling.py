"""Requests without a model: a step is carried out by writing down which tokens each block contains."""

import random
from collections.abc import Sequence

from blixt.llm.engine.blocks import BlockPool
from blixt.llm.engine.blocks_tables import CacheBlocks, Group, blocks_needed
from blixt.llm.engine.request import Request, State
from blixt.llm.engine.scheduler import Scheduler, Slice
from blixt.llm.sampling import Sampling

FULL = Group((0,))
SLIDING = Group((1,), "sliding", 9)
CHUNKED = Group((2,), "chunked", 8)


def make_request(
    uid: str, tokens: Sequence[int], new: int, order: tuple[int, int], salt: str = ""
) -> Request:
    return Request(
        uid=uid,
        tokens=list(tokens),
        prompt_tokens=len(tokens),
        limit=len(tokens) + new,
        sampling=Sampling(),
        seed=0,
        order=order,
        salt=salt,
    )


class World:
    """A scheduler and, instead of keys and values, the tokens that each block was filled with.

    Args:
        groups: Layers by reach.
        count: Blocks of every group.
        size: Tokens in a block.
        batch: Most requests at once.
        step: Most tokens in a step.
    """

    def __init__(self, groups: Sequence[Group], count: int, size: int, batch: int, step: int) -> None:
        pools = [
            BlockPool(max(count, blocks_needed(g, 10_000, step, size) if g.reach != "full" else 0))
            for g in groups
        ]
        self.blocks = CacheBlocks(groups, pools, size)
        self.scheduler = Scheduler(self.blocks, batch, step, max_waiting=10_000)
        self.size = size
        self.filled: list[dict[int, tuple[object, ...]]] = [{} for _ in groups]

    def step(self, draw: random.Random) -> list[Slice]:
        """Plan a step, check it against the rules, carry it out."""
        plan = self.scheduler.plan()
        assert sum(part.count for part in plan) <= self.scheduler.max_tokens
        assert len(self.scheduler.running) <= self.scheduler.max_batch
        assert len({id(part.request) for part in plan}) == len(plan)
        for part in plan:
            self._write(part)
        for part in plan:
            self._read(part)
        for part in plan:
            request = part.request
            request.computed = part.start + part.count
            if part.samples:
                request.tokens.append(draw.randrange(5))
                if request.left <= 0:
                    self.scheduler.remove(request)
        return plan

    def _write(self, part: Slice) -> None:
        """What a layer does first: put every row's key into its place."""
        assert part.request.state is State.RUNNING
        assert part.request.tables is not None
        for number, row in enumerate(part.request.tables.blocks):
            for position in range(part.start, part.start + part.count):
                block = row[position // self.size]
                assert block > 0, "a token to compute has a place"
                past = (part.request.chain_salt, *part.request.tokens[: position + 1])
                place = block * self.size + position % self.size
                self.filled[number][place] = past

    def _read(self, part: Slice) -> None:
        """What it does then: every row reads what it sees, and must find its own past there."""
        assert part.request.tables is not None
        for number, (group, row) in enumerate(
            zip(self.blocks.groups, part.request.tables.blocks, strict=True)
        ):
            end = part.start + part.count
            for position in range(group.first(part.start), end):
                place = row[position // self.size] * self.size + position % self.size
                past = (part.request.chain_salt, *part.request.tokens[: position + 1])
                assert self.filled[number][place] == past, "a block holds another sequence's tokens"
