"""Which blocks a request's tokens lie in, for each group of layers that look equally far back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from blixt.llm.engine.blocks import BlockPool, chain, root


@dataclass(frozen=True)
class Group:
    """Layers that share block numbers because they see the same tokens.

    Attributes:
        layers: Their indices.
        reach: "full" sees everything before, "sliding" itself and `window - 1` tokens before, "chunked" what
            came before it in its own chunk of `window` positions.
        window: In tokens; 0 for "full".
    """

    layers: tuple[int, ...]
    reach: Literal["full", "sliding", "chunked"] = "full"
    window: int = 0

    def first(self, position: int) -> int:
        """The earliest position that the token at `position` sees."""
        if self.reach == "sliding":
            return max(0, position - self.window + 1)
        if self.reach == "chunked":
            return position // self.window * self.window
        return 0


@dataclass
class Tables:
    """A request's blocks.

    Attributes:
        blocks: For each group, the block of every `block_size` tokens; 0 where it is no longer needed.
        keys: Keys of the full blocks so far, see `blocks.chain`; the same for all groups.
        named: How many of the leading blocks were given their key.
        dropped: For each group, how many leading blocks its window has left behind.
    """

    blocks: list[list[int]]
    dropped: list[int]
    keys: list[bytes] = field(default_factory=list[bytes])
    named: int = 0


class Holder(Protocol):
    """What the cache needs to know of a request."""

    tokens: list[int]
    computed: int
    tables: Tables | None

    @property
    def chain_salt(self) -> str:
        """Requests share blocks only under the same one."""
        ...


class CacheBlocks:
    """Gives requests the blocks their tokens need, shares those already computed, takes back the rest.

    Args:
        groups: The model's layers by reach.
        pools: One a group.
        block_size: Tokens in a block.
    """

    def __init__(self, groups: Sequence[Group], pools: Sequence[BlockPool], block_size: int) -> None:
        self.groups = tuple(groups)
        self.pools = tuple(pools)
        self.block_size = block_size

    def share(self, request: Holder) -> int:
        """Move `computed` over the blocks that an earlier request left (or another of this step fills).

        The last token is always left to compute, for its logits.

        Returns:
            How many tokens were found.
        """
        size = self.block_size
        tables = self._open(request)
        start = request.computed // size
        limit = (len(request.tokens) - 1) // size
        if request.computed % size or start >= limit or any(len(row) > start for row in tables.blocks):
            return 0
        self._extend_keys(request, tables, limit)
        end = self._shared_end(tables, start, limit)
        if end == start:
            return 0
        for group, pool, row in zip(self.groups, self.pools, tables.blocks, strict=True):
            need = group.first(end * size) // size
            for index in range(start, end):
                block = pool.find(tables.keys[index]) if index >= need else 0
                if block:
                    pool.hold(block)
                row.append(block)
        tables.named = max(tables.named, end)
        request.computed = end * size
        self._drop_behind(request, tables)
        return (end - start) * size

    def reserve(self, request: Holder, end: int, spare: int = 0) -> bool:
        """Make room for the tokens before position `end`; all of it or, when blocks are short, nothing.

        Args:
            request: Who needs it; blocks that its windows have left behind are given back first.
            end: Number of tokens.
            spare: Blocks of each pool that must stay available afterwards.
        """
        tables = self._open(request)
        self._drop_behind(request, tables)
        total = -(-end // self.block_size)
        starts = [max(len(row), self._floor(group, request)) for group, row in self._rows(tables)]
        if any(
            total - start > pool.available - spare
            for start, pool in zip(starts, self.pools, strict=True)
            if total > start
        ):
            return False
        for start, pool, row in zip(starts, self.pools, tables.blocks, strict=True):
            row.extend([0] * (start - len(row)))
            for _ in range(start, total):
                row.append(pool.take(after=row[-1] if row else 0))
        return True

    def name(self, request: Holder, end: int) -> None:
        """Let others find the full blocks before position `end`, which this or an earlier step fills."""
        tables = self._open(request)
        full = min(end, len(request.tokens)) // self.block_size
        if full <= tables.named:
            return
        self._extend_keys(request, tables, full)
        for pool, row in zip(self.pools, tables.blocks, strict=True):
            for index in range(tables.named, full):
                if row[index]:
                    pool.name(row[index], tables.keys[index])
        tables.named = full

    def free(self, request: Holder) -> None:
        """Give everything back; what has a key can still be found. The request starts over."""
        if request.tables is not None:
            for pool, row in zip(self.pools, request.tables.blocks, strict=True):
                for block in reversed(row):  # the end of a chain is of less use, so it shall go first
                    if block:
                        pool.release(block)
        request.tables = None
        request.computed = 0

    def forget(self) -> None:
        """Nothing can be found any more."""
        for pool in self.pools:
            pool.forget()

    def need(self, tokens: int, step: int) -> tuple[int, ...]:
        """Blocks of each pool that a lone request of so many tokens needs at most.

        Args:
            tokens: Its full length.
            step: Most tokens of it in one step.
        """
        return tuple(blocks_needed(group, tokens, step, self.block_size) for group in self.groups)

    def _open(self, request: Holder) -> Tables:
        if request.tables is None:
            request.tables = Tables([[] for _ in self.groups], [0] * len(self.groups))
        return request.tables

    def _rows(self, tables: Tables) -> Iterable[tuple[Group, list[int]]]:
        return zip(self.groups, tables.blocks, strict=True)

    def _floor(self, group: Group, request: Holder) -> int:
        """Index of the first block that the request's next token sees."""
        return group.first(request.computed) // self.block_size

    def _drop_behind(self, request: Holder, tables: Tables) -> None:
        for number, (group, row) in enumerate(self._rows(tables)):
            end = min(self._floor(group, request), len(row))
            for index in range(tables.dropped[number], end):
                if row[index]:
                    self.pools[number].release(row[index])
                    row[index] = 0
            tables.dropped[number] = max(tables.dropped[number], end)

    def _extend_keys(self, request: Holder, tables: Tables, count: int) -> None:
        size = self.block_size
        for index in range(len(tables.keys), count):
            parent = tables.keys[-1] if tables.keys else root(request.chain_salt)
            tables.keys.append(chain(parent, request.tokens[index * size : (index + 1) * size]))

    def _shared_end(self, tables: Tables, start: int, limit: int) -> int:
        """The furthest block index up to which every group finds the blocks it would look at."""
        end = limit
        for group, pool in zip(self.groups, self.pools, strict=True):
            if group.reach == "full":
                end = next((i for i in range(start, end) if not pool.find(tables.keys[i])), end)
        while end > start and not all(
            self._has_window(tables, i, start, end) for i in range(len(self.groups))
        ):
            end -= 1
        return end

    def _has_window(self, tables: Tables, number: int, start: int, end: int) -> bool:
        group, pool, row = self.groups[number], self.pools[number], tables.blocks[number]
        if group.reach == "full":
            return True
        return all(
            pool.find(tables.keys[index]) if index >= start else row[index]
            for index in range(group.first(end * self.block_size) // self.block_size, end)
        )


def blocks_needed(group: Group, tokens: int, step: int, block_size: int) -> int:
    """Blocks that a sequence needs in one group at most.

    Args:
        group: How far its layers look back.
        tokens: Full length of the sequence.
        step: Most of its tokens in one step.
        block_size: Tokens in a block.
    """
    whole = -(-tokens // block_size)
    if group.reach == "full":
        return whole
    return min(whole, -(-(group.window + step) // block_size) + 1)
