"""Answers on the screen: Markdown that grows, in a terminal; plain text, in a pipe."""

import sys
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

if TYPE_CHECKING:
    from blixt.llm.terminal_model import Said

FENCES = ("```", "~~~")


class Screen(Protocol):
    """Where a conversation is shown. As a context manager it begins and ends one answer."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, said: "Said") -> None:
        """The next of an answer."""
        ...

    def note(self, text: str) -> None:
        """What the program says."""
        ...


def screen_of(out: TextIO) -> Screen:
    """The screen for a terminal or a pipe."""
    return MarkdownScreen() if out.isatty() else PlainScreen(out)


class PlainScreen:
    """Answers as they are, a line break after each; reasoning and notes go elsewhere.

    Args:
        out: Where answers go.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.write("\n")
        self._out.flush()

    def show(self, said: "Said") -> None:
        """Write content at once."""
        if said.kind == "content":
            self._out.write(said.text)
            self._out.flush()

    def note(self, text: str) -> None:
        """To standard error, which is no part of the answers."""
        print(text, file=sys.stderr, flush=True)


class MarkdownScreen:
    """Finished blocks are printed for good; only the last one is drawn again as it grows."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console()
        self._live: Any = None
        self._text = ""
        self._thinking = False

    def __enter__(self) -> Self:
        from rich.live import Live

        self._text, self._thinking = "", False
        self._live = Live(
            console=self._console, refresh_per_second=12, vertical_overflow="crop", transient=True
        )
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.update("")
        self._live.stop()
        self._print(self._text)

    def show(self, said: "Said") -> None:
        """Draw the next of an answer."""
        if (said.kind == "reasoning") != self._thinking:
            self._print(self._text)
            self._text, self._thinking = "", said.kind == "reasoning"
        self._text += said.text
        done, self._text = split_blocks(self._text)
        self._print(done)
        self._live.update(self._drawn(self._tail()))

    def note(self, text: str) -> None:
        """In another colour than answers."""
        self._console.print(text, style="dim", markup=False, highlight=False)

    def _tail(self) -> str:
        """As much of the growing block as the screen is sure to hold."""
        height = max(4, self._console.height - 2)
        return "\n".join(self._text.splitlines()[-height:])

    def _print(self, text: str) -> None:
        if text.strip():
            self._console.print(self._drawn(text))

    def _drawn(self, text: str) -> Any:
        from rich.markdown import Markdown
        from rich.text import Text

        return Text(text.rstrip(), style="dim italic") if self._thinking else Markdown(text)


def split_blocks(text: str) -> tuple[str, str]:
    """A growing Markdown text as (blocks that are complete, the rest).

    Example:
        >>> split_blocks("One.\\n\\nTwo")
        ('One.\\n\\n', 'Two')
    """
    fence, at, cut = "", 0, 0
    for line in text.splitlines(keepends=True):
        stripped = line.lstrip()
        at += len(line)
        mark = next((mark for mark in FENCES if stripped.startswith(mark)), "")
        if mark and (not fence or mark == fence):
            fence = "" if fence else mark
        elif not fence and not stripped and line.endswith("\n"):
            cut = at
    return text[:cut], text[cut:]
