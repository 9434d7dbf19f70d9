"""A grammar as states between bytes, with the shortest way from each to the end of its rule.

xgrammar says which tokens may come next; this says how far the end is. It reads the grammar that xgrammar
compiled, turns every rule into a small automaton over bytes that may call other rules, and finds the
cheapest text of each rule (Knuth 1977, "A generalization of Dijkstra's algorithm").
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from blixt.llm.engine.grammar_pattern import EMPTY_STEP, pattern_machine
from blixt.llm.errors import FormatError

# How xgrammar numbers the kinds of expressions in a serialised grammar.
_BYTES, _CLASS, _CLASS_STAR, _EMPTY, _RULE, _SEQUENCE, _CHOICES, _REPEAT = 0, 1, 2, 3, 4, 5, 6, 8
_REGEX = 12
_LAST_CODE_POINT = 0x10FFFF
_LIMITS = (0x7F, 0x7FF, 0xFFFF, _LAST_CODE_POINT)  # the largest code point of one to four bytes
_LEADS = (0, 0xC0, 0xE0, 0xF0)
_LIKED = b"0a A1bxyz-_."  # what a closing text is made of where any character would do


class Call(NamedTuple):
    """A state from which a rule is read `least` to `most` times before `after` is reached.

    Attributes:
        rule: Which rule.
        least, most: How often; most is -1 for no limit.
        after: The state behind it.
    """

    rule: int
    least: int
    most: int
    after: int


class Automaton:
    """All rules of a grammar.

    Args:
        grammar: What `serialize_json` of an xgrammar `Grammar` gives, before it is compiled.
        writable: Bytes that the vocabulary can write one by one.

    Attributes:
        root: The rule that everything begins with.
        starts, ends: The first and the last state of each rule.
        rule_of: The rule of each state.
        empty: States reached from each state without a byte.
        bytes: Ranges of bytes from each state, (first, last, next state).
        calls: What each state calls, if anything.
        rest: Fewest bytes from each state to the end of its rule; infinite if they cannot be written.

    Raises:
        FormatError: It has parts whose end cannot be foreseen.
    """

    def __init__(self, grammar: str, writable: Collection[int]) -> None:
        data: dict[str, Any] = json.loads(grammar)
        self._data: list[int] = data["grammar_expr_data"]
        self._starts_of: list[int] = data["grammar_expr_indptr"]
        self._writable = frozenset(writable)
        self.rule_of: list[int] = []
        self.empty: list[list[int]] = []
        self.bytes: list[list[tuple[int, int, int]]] = []
        self.calls: list[Call | None] = []
        self.root: int = data["root_rule_id"]
        rules = range(len(data["rules"]))
        self.starts = [self._state(rule) for rule in rules]
        self.ends = [self._state(rule) for rule in rules]
        for rule in rules:
            self._build(data["rules"][rule][1], rule, self.starts[rule], self.ends[rule])
        for moves in self.bytes:
            moves.sort(key=lambda move: not any(move[0] <= byte <= move[1] for byte in _LIKED))
        self._best: list[tuple[bytes, int, int]] = []  # of each state: byte, rules called, next state
        self.rest = self._shortest()
        self._texts: dict[int, bytes] = {}

    def left(self, state: int, count: int) -> float:
        """Fewest bytes to the end of the rule, from a state whose call was made `count` times."""
        call = self.calls[state]
        if call is None or not count:
            return self.rest[state]
        return max(0, call.least - count) * self.rest[self.starts[call.rule]] + self.rest[call.after]

    def text(self, state: int, count: int = 0) -> bytes:
        """The shortest text to the end of the rule, from a state that has one."""
        call = self.calls[state]
        if call is not None and count:
            return self._text(self.starts[call.rule]) * max(0, call.least - count) + self._text(call.after)
        return self._text(state)

    def _text(self, state: int) -> bytes:
        """`text`, rule by rule from the innermost: no recursion, rules nest as deep as they like."""
        stack = [state]
        while stack:
            at, parts, needed = stack[-1], list[bytes](), None
            while self.rest[at] and at not in self._texts:
                step, called, after = self._best[at]
                call = self.calls[at]
                if called and call is not None:
                    inner = self.starts[call.rule]
                    if inner not in self._texts and self.rest[inner]:
                        needed = inner
                        break
                    step = self._texts.get(inner, b"") * called
                parts.append(step)
                at = after
            if needed is not None:
                stack.append(needed)
                continue
            self._texts[stack.pop()] = b"".join(parts) + self._texts.get(at, b"")
        return self._texts[state]

    def _state(self, rule: int) -> int:
        self.rule_of.append(rule)
        self.empty.append([])
        self.bytes.append([])
        self.calls.append(None)
        return len(self.rule_of) - 1

    def _build(self, expression: int, rule: int, start: int, end: int) -> None:
        """Lay an expression between two states of a rule."""
        at = self._starts_of[expression]
        kind, size = self._data[at : at + 2]
        data = self._data[at + 2 : at + 2 + size]
        if kind == _CHOICES:
            for choice in data:
                self._build(choice, rule, start, end)
        elif kind == _SEQUENCE:
            states = [start, *(self._state(rule) for _ in data[1:]), end]
            for part, before, after in zip(data, states, states[1:], strict=False):
                self._build(part, rule, before, after)
        elif kind == _EMPTY:
            self.empty[start].append(end)
        elif kind == _BYTES:
            self._path(rule, start, end, [(byte, byte) for byte in data])
        elif kind in (_CLASS, _CLASS_STAR):
            self._characters(rule, start, end, data, repeated=kind == _CLASS_STAR)
        elif kind == _REGEX:
            self._pattern(rule, start, end, data)
        elif kind == _RULE and (data[0], end) == (rule, self.ends[rule]):
            self.empty[start].append(self.starts[rule])  # a rule that ends in itself is a loop
        elif kind in (_RULE, _REPEAT):
            least, most = (1, 1) if kind == _RULE else data[1:]
            self._call(rule, start, Call(data[0], least, most, end))
        else:
            raise FormatError("the grammar uses a part whose end cannot be foreseen: write it as plain rules")

    def _call(self, rule: int, start: int, call: Call) -> None:
        if start in (self.starts[rule], self.ends[rule]) or self.calls[start] is not None:
            between = self._state(rule)  # several choices may begin where this one does
            self.empty[start].append(between)
            start = between
        self.calls[start] = call

    def _characters(self, rule: int, start: int, end: int, data: list[int], *, repeated: bool) -> None:
        negated, pairs = data[0], list(zip(data[1::2], data[2::2], strict=True))
        if repeated:
            loop = self._state(rule)
            self.empty[start].append(loop)
            self.empty[loop].append(end)
            start = end = loop
        for first, last in _complement(pairs) if negated else pairs:
            for path in _utf8(first, last):
                self._path(rule, start, end, path)

    def _pattern(self, rule: int, start: int, end: int, data: list[int]) -> None:
        machine = pattern_machine(bytes(data[1:]).decode(), bool(data[0]))
        states = [self._state(rule) for _ in machine.steps]
        self.empty[start].append(states[machine.start])
        for state, steps in zip(states, machine.steps, strict=True):
            for first, last, after in steps:
                if first == EMPTY_STEP:
                    self.empty[state].append(states[after])
                else:
                    self.bytes[state].append((first, last, states[after]))
        for stop in machine.ends:
            self.empty[states[stop]].append(end)

    def _path(self, rule: int, start: int, end: int, ranges: list[tuple[int, int]]) -> None:
        if not ranges:
            self.empty[start].append(end)
        for index, (first, last) in enumerate(ranges):
            after = end if index == len(ranges) - 1 else self._state(rule)
            self.bytes[start].append((first, last, after))
            start = after

    def _shortest(self) -> list[float]:
        """`rest` of every state; what was chosen is kept, and never leads in a circle."""
        rest = [math.inf] * len(self.rule_of)
        self._best = [(b"", 0, 0)] * len(rest)
        for end in self.ends:
            rest[end] = 0
        changed = True
        while changed:
            changed = False
            for state in reversed(range(len(rest))):
                for cost, best in self._steps(state, rest):
                    if cost < rest[state]:
                        rest[state], self._best[state], changed = cost, best, True
        return rest

    def _steps(self, state: int, rest: list[float]) -> Iterator[tuple[float, tuple[bytes, int, int]]]:
        for after in self.empty[state]:
            yield rest[after], (b"", 0, after)
        for first, last, after in self.bytes[state]:
            if rest[after] < math.inf and (byte := self._byte(first, last)) is not None:
                yield 1 + rest[after], (bytes([byte]), 0, after)
        if (call := self.calls[state]) is not None:
            inner = rest[self.starts[call.rule]] if call.least else 0
            yield call.least * inner + rest[call.after], (b"", call.least, call.after)

    def _byte(self, first: int, last: int) -> int | None:
        """The byte of a range that looks best in an answer; of bytes that continue a character, any."""
        if first >= 0x80:
            return first
        liked = (byte for byte in _LIKED if first <= byte <= last and byte in self._writable)
        plain = (byte for byte in range(max(first, 32), last + 1) if byte in self._writable)
        other = (byte for byte in range(first, last + 1) if byte in self._writable)
        return next(liked, next(plain, next(other, None)))


def _complement(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for first, last in sorted(pairs):
        if first > at:
            yield at, first - 1
        at = max(at, last + 1)
    if at <= _LAST_CODE_POINT:
        yield at, _LAST_CODE_POINT


def _utf8(first: int, last: int) -> Iterator[list[tuple[int, int]]]:
    """Ranges of bytes, one list for each box of code points that is one in UTF-8 too."""
    lowest = 0
    for size, (limit, lead) in enumerate(zip(_LIMITS, _LEADS, strict=True), 1):
        low, high = max(first, lowest), min(last, limit)
        if low <= high:
            for path in _boxes(low, high, size - 1):
                yield [(path[0][0] | lead, path[0][1] | lead), *((a | 0x80, b | 0x80) for a, b in path[1:])]
        lowest = limit + 1


def _boxes(low: int, high: int, more: int) -> Iterator[list[tuple[int, int]]]:
    """Numbers low..high as ranges of a first digit and of `more` digits of six bits behind it."""
    if not more:
        yield [(low, high)]
        return
    unit = 1 << (6 * more)
    first, last = low // unit, high // unit
    if first == last:
        for path in _boxes(low % unit, high % unit, more - 1):
            yield [(first, first), *path]
        return
    if low % unit:
        for path in _boxes(low % unit, unit - 1, more - 1):
            yield [(first, first), *path]
        first += 1
    upper = last if (high + 1) % unit else last + 1
    if first < upper:
        yield [(first, upper - 1), *[(0, 63)] * more]
    if upper == last:
        for path in _boxes(0, high % unit, more - 1):
            yield [(last, last), *path]
