"""The pool of blocks against a plain model of it."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from blixt.llm.engine.blocks import BlockPool, chain, root

COUNT = 7


class PoolMachine(RuleBasedStateMachine):
    """Random use of a pool; the model knows who holds what and what each block contains."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(COUNT, spread=True)
        self.held: dict[int, int] = {}
        self.content: dict[int, bytes] = {}
        self.released: list[int] = []

    @precondition(lambda self: self.pool.available > 0)
    @rule(after=st.integers(0, COUNT))
    def take(self, after: int) -> None:
        idle = [block for block in self.released if block in self.content]
        block = self.pool.take(after)
        assert 1 <= block <= COUNT
        assert block not in self.held
        if block in self.content:
            assert block == idle[0], "the one released longest ago goes first"
            assert len(self.held) + len(idle) == COUNT, "and only when none is blank"
            del self.content[block]
        self.held[block] = 1
        self.released = [other for other in self.released if other != block]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.held)))
        self.pool.release(block)
        self.held[block] -= 1
        if not self.held[block]:
            del self.held[block]
            self.released.append(block)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), key=st.binary(min_size=1, max_size=1))
    def name(self, data: st.DataObject, key: bytes) -> None:
        block = data.draw(st.sampled_from(sorted(self.held)))
        self.pool.name(block, key)
        if block not in self.content and key not in self.content.values():
            self.content[block] = key

    @rule(key=st.binary(min_size=1, max_size=1))
    def revive(self, key: bytes) -> None:
        block = self.pool.find(key)
        assert block == next((b for b, content in self.content.items() if content == key), 0)
        if block:
            self.pool.hold(block)
            self.held[block] = self.held.get(block, 0) + 1
            self.released = [other for other in self.released if other != block]

    @rule()
    def forget(self) -> None:
        self.pool.forget()
        self.content.clear()

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.used == len(self.held)
        assert self.pool.available == COUNT - len(self.held)
        assert all(self.pool.holders(block) == count for block, count in self.held.items())


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_sequence_that_grows_alone_gets_consecutive_blocks() -> None:
    pool = BlockPool(64, spread=True)
    first = pool.take()
    assert [pool.take(first + i) for i in range(5)] == [first + i + 1 for i in range(5)]


def test_sequences_that_grow_together_stay_consecutive_while_there_is_room() -> None:
    pool = BlockPool(64, spread=True)
    rows = [[pool.take()] for _ in range(4)]
    for _ in range(7):
        for row in rows:
            row.append(pool.take(row[-1]))
    assert all(row == list(range(row[0], row[0] + 8)) for row in rows)


@given(st.lists(st.integers(0, 2**20), min_size=4, max_size=4), st.integers(0, 3), st.integers(1, 2**20))
def test_a_key_changes_with_any_token_with_the_past_and_with_the_salt(
    tokens: Sequence[int], place: int, change: int
) -> None:
    other = list(tokens)
    other[place] += change
    keys = {
        chain(root(""), tokens),
        chain(root(""), other),
        chain(root("tenant"), tokens),
        chain(chain(root(""), tokens), tokens),
    }
    assert len(keys) == 4


@pytest.mark.parametrize("spread", [False, True])
def test_a_pool_hands_out_every_block_once(spread: bool) -> None:
    pool = BlockPool(20, spread=spread)
    assert sorted(pool.take() for _ in range(20)) == list(range(1, 21))
    assert pool.available == 0
