"""Cutting a stream of text at its first stop string, without ever sending a part of one."""

from collections.abc import Sequence


class StopFilter:
    """Feed text, get the text that is safe to send; `hit` once a stop string was found.

    Example:
        >>> f = StopFilter(["END"])
        >>> f.feed("one E"), f.feed("ND two"), f.hit
        ('one ', '', True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held: str = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """Take the next text; what may be the beginning of a stop string is held back."""
        if not self._stops:
            return text
        text, self._held = f"{self._held}{text}", ""
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit = True
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        if held:
            self._held = text[-held:]
            return text[:-held]
        return text

    def rest(self) -> str:
        """What is still held, once the text has ended without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
