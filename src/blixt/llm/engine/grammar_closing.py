"""The shortest text that brings an unfinished one to its end.

While a text is written, `Closing` follows it byte by byte through the grammar, as an Earley parser does
(Earley 1970): a `Place` holds every rule that may be open there and where it was opened. Places are made once
for a format and reached again by a look into a table, so inside a string a byte costs next to nothing. The
number of bytes to the end is known at every place, the text itself when it is asked for.
"""

import math
from typing import NamedTuple

from blixt.llm.engine.grammar_automaton import Automaton
from blixt.llm.engine.grammar_vocab import Vocabulary

MOST_PLACES = 2048
"""So many are kept for a format, then they are found anew."""


class Item(NamedTuple):
    """A rule that may be open: how far it is read, how often its call was made, and where it began."""

    state: int
    times: int
    opened: "Place | None"


class Place:
    """Where a text may stand in its grammar.

    Attributes:
        cost: Fewest bytes to the end of the text.
        waiting: Rules begun here, with who goes on behind them.
        up: Of each of those, the fewest bytes behind it and who they are of.
        scans: Ranges of bytes that may come, with what is read then.
        next: Places that were found behind bytes.
        best: The item by which the end is nearest.
        written: The tokens to the end, once they were asked for.
    """

    __slots__ = ("best", "cost", "next", "scans", "up", "waiting", "written")

    def __init__(self) -> None:
        self.next: dict[int, Place | None] = {}
        self.scans: list[tuple[int, int, int, Place | None]] = []
        self.waiting: dict[int, list[Item]] = {}
        self.up: dict[int, tuple[float, Item]] = {}
        self.cost = math.inf
        self.best: Item | None = None
        self.written: list[int] | None = None


class Closing:
    """Finds what closes texts of one format.

    Args:
        grammar: What `serialize_json` of an xgrammar `Grammar` gives, before it is compiled.
        vocabulary: Whose tokens to close them with.
        in_json: Whether control characters must not be written: JSON forbids them inside strings.

    Raises:
        FormatError: The grammar has parts whose end cannot be foreseen.
    """

    def __init__(self, grammar: str, vocabulary: Vocabulary, *, in_json: bool) -> None:
        single = {text[0] for text in vocabulary.ids if len(text) == 1}
        if in_json:
            single -= set(range(32))
        self._automaton = Automaton(grammar, single)
        self._vocabulary = vocabulary
        self._places: dict[frozenset[Item], Place] = {}

    @property
    def start(self) -> Place:
        """Before the first byte."""
        automaton = self._automaton
        return self._place(frozenset([Item(automaton.starts[automaton.root], 0, None)]))

    def follow(self, place: Place, text: bytes) -> Place | None:
        """Where a text leads that the grammar accepts; None for one that it does not."""
        for byte in text:
            if byte not in place.next:
                place.next[byte] = self._step(place, byte)
            after = place.next[byte]
            if after is None:
                return None
            place = after
        return place

    def tokens(self, place: Place) -> list[int] | None:
        """The fewest tokens that write the shortest text to the end; None when there is none."""
        if place.written is None and place.cost < math.inf:
            place.written = self._written(self._text(place))
        return place.written

    def _step(self, place: Place, byte: int) -> Place | None:
        kernel = frozenset(
            Item(after, 0, opened) for first, last, after, opened in place.scans if first <= byte <= last
        )
        return self._place(kernel) if kernel else None

    def _place(self, kernel: frozenset[Item]) -> Place:
        found = self._places.get(kernel)
        if found is None:
            if len(self._places) >= MOST_PLACES:
                self._places.clear()
            found = self._places[kernel] = _closed(self._automaton, kernel)
        return found

    def _text(self, place: Place) -> bytes:
        item, parts = place.best, list[bytes]()
        while item is not None:
            parts.append(self._automaton.text(item.state, item.times))
            opened = item.opened
            item = None if opened is None else opened.up[self._automaton.rule_of[item.state]][1]
        return b"".join(parts)

    def _written(self, text: bytes) -> list[int] | None:
        """A text in as few tokens as possible."""
        ids, longest = self._vocabulary.ids, self._vocabulary.longest
        best: list[tuple[float, int]] = [(0, 0)]  # up to each byte: how many tokens, and where the last began
        for end in range(1, len(text) + 1):
            begins = range(max(0, end - longest), end)
            best.append(
                min(
                    ((best[at][0] + 1, at) for at in begins if text[at:end] in ids),
                    default=(math.inf, 0),
                )
            )
        if best[-1][0] == math.inf:
            return None
        tokens, end = list[int](), len(text)
        while end:
            at = best[end][1]
            tokens.append(ids[text[at:end]])
            end = at
        return tokens[::-1]


def _closed(automaton: Automaton, kernel: frozenset[Item]) -> Place:
    """The place of some items, with all that follows from them without a byte."""
    place = Place()
    seen, work = set(kernel), list(kernel)
    finished: set[int] = set()  # rules that begin and end here
    while work:
        item = work.pop()
        for found in _consequences(automaton, item, place, finished):
            if found not in seen:
                seen.add(found)
                work.append(found)
        place.scans += [(*move, item.opened) for move in automaton.bytes[item.state]]
    _find_ways_up(automaton, place)
    for item in kernel:
        cost = automaton.left(item.state, item.times) + _up(automaton, item)
        if cost < place.cost:
            place.cost, place.best = cost, item
    return place


def _consequences(automaton: Automaton, item: Item, place: Place, finished: set[int]) -> list[Item]:
    """What else may be open when an item is."""
    state, times, opened = item
    found = [Item(after, 0, opened) for after in automaton.empty[state]]
    call = automaton.calls[state]
    if call is not None:
        if times >= call.least:
            found.append(Item(call.after, 0, opened))
        if call.most < 0 or times < call.most:
            # Without a limit, those above the least make no difference; the last one leads on at once.
            once_more = min(times + 1, max(call.least, 1)) if call.most < 0 else times + 1
            behind = Item(call.after, 0, opened) if once_more == call.most else Item(state, once_more, opened)
            place.waiting.setdefault(call.rule, []).append(behind)
            found.append(Item(automaton.starts[call.rule], 0, place))
            if call.rule in finished:
                found.append(behind)
    rule = automaton.rule_of[state]
    if state == automaton.ends[rule] and opened is not None:
        if opened is place:
            finished.add(rule)
        found += opened.waiting[rule]
    return found


def _find_ways_up(automaton: Automaton, place: Place) -> None:
    """For each rule begun here, the cheapest of those that wait for it."""
    changed = True
    while changed:
        changed = False
        for rule, items in place.waiting.items():
            best = place.up[rule][0] if rule in place.up else math.inf
            for item in items:
                cost = automaton.left(item.state, item.times) + _up(automaton, item)
                if cost < best:
                    best, changed = cost, True
                    place.up[rule] = (cost, item)


def _up(automaton: Automaton, item: Item) -> float:
    """Fewest bytes behind the rule of an item."""
    if item.opened is None:
        return 0
    return item.opened.up.get(automaton.rule_of[item.state], (math.inf,))[0]
