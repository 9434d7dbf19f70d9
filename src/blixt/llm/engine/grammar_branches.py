"""A text that may take one of several forms, each behind an opening of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blixt.llm.engine.grammar_state import GrammarState, allowed, allowing
from blixt.llm.errors import LLMError


@dataclass(eq=False)
class Branch:
    """One of the forms.

    Attributes:
        opening: Tokens that come first.
        grammar: What follows them; None for anything.
        left_at: Which token of the text did not fit it; None as long as all did.
    """

    opening: tuple[int, ...]
    grammar: GrammarState | None
    left_at: int | None = None

    def least(self, count: int) -> int | None:
        """Fewest tokens to its end, when `count` are written."""
        before = max(0, len(self.opening) - count)
        if self.grammar is None:
            return before
        least = self.grammar.least
        return None if least is None else before + least


class Branches(GrammarState):
    """Where a text stands in every form that it may still take.

    Args:
        branches: The forms, fresh.
        vocab: Width of the logits.
    """

    def __init__(self, branches: Sequence[Branch], vocab: int) -> None:
        self._branches = list(branches)
        self._count = 0
        self._row = torch.zeros(-(-vocab // 32), dtype=torch.int32)
        self.end_ids = next((b.grammar.end_ids for b in branches if b.grammar is not None), ())

    @property
    def complete(self) -> bool:
        """Whether the text so far is the whole of some form."""
        return any(branch.grammar is not None and branch.grammar.complete for branch in self._begun())

    @property
    def done(self) -> bool:
        """Whether only an end token may follow, whichever form it is."""
        begun = self._begun()
        live = sum(branch.left_at is None for branch in self._branches)
        return len(begun) == live and all(b.grammar is not None and b.grammar.done for b in begun)

    @property
    def least(self) -> int | None:
        """Fewest tokens to the end of the nearest form."""
        known = [branch.least(self._count) for branch in self._branches if branch.left_at is None]
        return min((least for least in known if least is not None), default=None)

    def check_room(self, left: int) -> None:
        """Refuse a request that has no room for one of its forms; see `GrammarState.check_room`."""
        for branch in self._branches:
            if branch.grammar is not None:
                branch.grammar.check_room(left - len(branch.opening))

    def fill(self, row: Tensor, left: int) -> None:
        """Write which tokens some form allows next; one that has no room left is not begun."""
        row.zero_()
        for branch in self._open(left):
            if self._count < len(branch.opening):
                allowing(row, branch.opening[self._count])
            elif branch.grammar is None:
                row.fill_(-1)
            else:
                branch.grammar.fill(self._row, left)
                row |= self._row

    def accept(self, token: int, left: int) -> int:
        """Go on by one token in every form that it fits; see `GrammarState.accept`."""
        fitting, swapped = list[Branch](), list[tuple[int, Branch]]()
        for branch in self._open(left):
            used = self._used(branch, token, left)
            if used == token:
                fitting.append(branch)
            elif used is not None:
                swapped.append((used, branch))
        if not fitting and swapped:
            token = swapped[0][0]
            fitting = [branch for used, branch in swapped if used == token]
        for _, branch in swapped:
            if branch not in fitting and branch.grammar is not None:
                branch.grammar.rollback(1)
        if not fitting:
            raise LLMError(f"token {token} does not fit the request's format: apply its bitmask first")
        for branch in self._branches:
            if branch.left_at is None and branch not in fitting:
                branch.left_at = self._count
        self._count += 1
        return token

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""
        before, self._count = self._count, self._count - count
        for branch in self._branches:
            reached = before if branch.left_at is None else branch.left_at
            read = max(0, reached - len(branch.opening)) - max(0, self._count - len(branch.opening))
            if branch.grammar is not None and read > 0:
                branch.grammar.rollback(read)
            if branch.left_at is not None and branch.left_at >= self._count:
                branch.left_at = None

    def _begun(self) -> list[Branch]:
        return [b for b in self._branches if b.left_at is None and self._count >= len(b.opening)]

    def _open(self, left: int) -> list[Branch]:
        """The forms that the text may still take, those with room; all when none has."""
        live = [branch for branch in self._branches if branch.left_at is None]
        if len(live) == 1:
            return live
        return [b for b in live if (least := b.least(self._count)) is None or least <= left] or live

    def _used(self, branch: Branch, token: int, left: int) -> int | None:
        """What a form makes of a token: the same, another that it must take instead, or None."""
        if self._count < len(branch.opening):
            return token if token == branch.opening[self._count] else None
        if branch.grammar is None:
            return token
        branch.grammar.fill(self._row, left)
        return branch.grammar.accept(token, left) if allowed(self._row, token) else None
