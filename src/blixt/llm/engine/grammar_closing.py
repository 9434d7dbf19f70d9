"""How a text that follows a grammar is brought to its end in few tokens.

A walk over single characters, on a copy of the matcher: what closes something first, then what is short; if
that leads nowhere, walks by chance. The way found need not be the shortest, but the grammar accepts it.
"""

import random
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from blixt.llm.engine.grammar_vocab import Vocabulary

if TYPE_CHECKING:
    from xgrammar import GrammarMatcher

_QUOTE = b'"'
_CLOSERS = [b"}", b"]", b")", b">", _QUOTE]
_WORDS = [bytes([c]) for c in b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
_MARKS = [bytes([c]) for c in b"@.-':/_!?=+*%&|~^#$`;\\"]
_LAST = [bytes([c]) for c in b",{[(< \n"]  # they open more, or lead nowhere
_WORDS_IN_A_ROW = 3  # before another kind of character is tried
_MAX_STEPS = 1024
_MAX_WANDERING_STEPS = 256
_WALKS = 32
_FALLBACK_TOKENS = 8


class Closer:
    """Finds what closes a text.

    Args:
        vocabulary: Whose tokens to close it with.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._lost = False
        self._row = torch.zeros(1, -(-vocabulary.size // 32), dtype=torch.int32)

    def plan(self, matcher: "GrammarMatcher") -> list[int] | None:
        """Tokens that complete the text, the end token not among them; None when none were found.

        Args:
            matcher: Where the text stands; it is left there.
        """
        if matcher.is_terminated():
            return []
        text = None if self._lost else self._walk(matcher.fork(), _MAX_STEPS, None)
        if text is None:
            self._lost = True
            for seed in range(_WALKS):
                steps = _MAX_WANDERING_STEPS if text is None else len(text) - 1
                text = self._walk(matcher.fork(), steps, random.Random(seed)) or text
        return None if text is None else self._tokens(text)

    def _walk(self, matcher: "GrammarMatcher", most_steps: int, chance: random.Random | None) -> bytes | None:
        """The text on the way to the end, by the best step each time or by chance; None without an end."""
        taken: list[bytes] = []
        used: Counter[bytes] = Counter()
        while not matcher.is_completed():
            steps = self._candidates(matcher, used)
            choices = list(steps) if chance else [next(steps, b"")]
            if not choices or not choices[0] or len(taken) == most_steps:
                return None
            taken.append(chance.choice(choices) if chance else choices[0])
            used[_kind(taken[-1])] += 1
            matcher.accept_string(taken[-1])
        return b"".join(taken)

    def _candidates(self, matcher: "GrammarMatcher", used: Counter[bytes]) -> Iterator[bytes]:
        """What the grammar accepts next, best first: what closes, then characters of kinds used least."""
        if sure := _certain(matcher):
            yield sure
            return
        # Inside free text a bracket closes nothing; the quote still may.
        in_text = _fits(matcher, b"}") and _fits(matcher, b"a")
        tries = {_kind(step): used[_kind(step)] for step in _MARKS}
        tries[_WORDS[0]] = used[_WORDS[0]] // _WORDS_IN_A_ROW
        free = sorted([*_WORDS, *_MARKS], key=lambda step: tries[_kind(step)])
        found = False
        for step in [*([_QUOTE] if in_text else _CLOSERS), *free, *_LAST, *(_CLOSERS if in_text else ())]:
            if _fits(matcher, step):
                found = True
                yield step
        if not found:
            yield from self._allowed(matcher)

    def _allowed(self, matcher: "GrammarMatcher") -> Iterator[bytes]:
        """The first tokens that the grammar allows, for where no ASCII character fits."""
        matcher.fill_next_token_bitmask(self._row)
        bits = (self._row.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32)) & 1
        for token in bits.flatten().nonzero().flatten()[:_FALLBACK_TOKENS]:
            token = int(token)
            if token not in self._vocabulary.end_ids:
                yield self._vocabulary.texts[token]

    def _tokens(self, text: bytes) -> list[int] | None:
        """The text in the longest tokens that fit, from left to right."""
        ids, tokens, at = self._vocabulary.ids, list[int](), 0
        while at < len(text):
            longest = min(self._vocabulary.longest, len(text) - at)
            size = next((n for n in range(longest, 0, -1) if text[at : at + n] in ids), 0)
            if not size:
                return None
            tokens.append(ids[text[at : at + size]])
            at += size
        return tokens


def _kind(step: bytes) -> bytes:
    """Letters and digits count as one kind, anything else as its own."""
    return _WORDS[0] if step.isalnum() else step


def _fits(matcher: "GrammarMatcher", text: bytes) -> bool:
    if not matcher.accept_string(text):
        return False
    matcher.rollback(1)
    return True


def _certain(matcher: "GrammarMatcher") -> bytes:
    """What must come next; b"" when there is a choice, or when it is the first half of a character."""
    try:
        return matcher.find_jump_forward_string().encode()
    except UnicodeDecodeError:  # the library gives text, and half a character is none
        return b""
