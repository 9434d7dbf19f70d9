"""The conversation in the terminal: its commands, and the loop around a model's answers."""

import json
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blixt.llm.errors import LLMError, PromptError

if TYPE_CHECKING:
    from blixt.llm.terminal_model import Partner
    from blixt.llm.terminal_screen import Screen

QUOTES = '"""'
HELP = """\
/reset            forget the conversation (the system prompt stays)
/system TEXT      set the system prompt; without a text, drop it
/undo             take back the last message and its answer
/retry            answer the last message again
/set NAME VALUE   temperature, top_p, top_k, max_tokens, seed ...; no VALUE unsets, no NAME shows
/save FILE        write the conversation; /load FILE reads it
/history          show the conversation
/exit             end (Ctrl-D, too)
A line that ends in \\ goes on; \"\"\" opens and closes a text of several lines. Ctrl-C stops an answer."""


class Conversation:
    """What was said, and how answers are drawn.

    Args:
        system: The system prompt.
        settings: Parameters of a chat request, by OpenAI's names.
    """

    def __init__(self, system: str | None = None, settings: dict[str, Any] | None = None) -> None:
        self.system = system
        self.settings = dict(settings or {})
        self.said: list[dict[str, Any]] = []

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All of it, the system prompt first."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [*first, *self.said]

    def ask(self, text: str) -> None:
        """Say something."""
        self.said.append({"role": "user", "content": text})

    def hear(self, text: str) -> None:
        """Keep an answer."""
        self.said.append({"role": "assistant", "content": text})

    def undo(self) -> str | None:
        """Take the last message and its answer back; returns the message."""
        while self.said:
            message = self.said.pop()
            if message["role"] == "user":
                return str(message["content"])
        return None

    def trim(self, fits: Callable[[list[dict[str, Any]]], int | None]) -> int:
        """Drop the oldest messages until the rest fits; returns how many were dropped.

        Raises:
            PromptError: The last message alone is too long; it is taken back.
        """
        dropped = 0
        while (room := fits(self.messages)) is not None:
            if len(self.said) == 1:
                self.said.clear()
                raise PromptError(f"that message is longer than half of the model's context, {room} tokens")
            self.said.pop(0)
            dropped += 1
        return dropped

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        data = {"messages": self.messages, "settings": self.settings}
        path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def load(self, path: Path) -> None:
        """Read what `save` wrote, or a plain list of messages.

        Raises:
            PromptError: It is neither.
        """
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
            fields: dict[str, Any] = {"messages": data} if isinstance(data, list) else data
            said = [{"role": str(one["role"]), "content": str(one["content"])} for one in fields["messages"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PromptError(f"{path} holds no conversation: {error}") from None
        system = said.pop(0)["content"] if said and said[0]["role"] == "system" else None
        self.system, self.said = system, said
        self.settings = dict(fields.get("settings") or self.settings)


class Left(Exception):
    """The user wants to end."""


def command(conversation: Conversation, line: str) -> str | None:
    """Obey a line that begins with a slash; returns what to show.

    Raises:
        Left: It was `/exit`.
        PromptError: There is no such command, or it does not go.
    """
    word, _, rest = line[1:].partition(" ")
    rest = rest.strip()
    act = _COMMANDS.get(word)
    if act is None:
        raise PromptError(f"there is no command /{word}; /help lists them")
    return act(conversation, rest)


def _reset(conversation: Conversation, rest: str) -> str:
    conversation.said.clear()
    return "The conversation is forgotten."


def _system(conversation: Conversation, rest: str) -> str:
    conversation.system = rest or None
    return "The system prompt is set." if rest else "There is no system prompt now."


def _undo(conversation: Conversation, rest: str) -> str:
    taken = conversation.undo()
    return "Nothing was said yet." if taken is None else f"Taken back: {taken}"


def _set(conversation: Conversation, rest: str) -> str:
    if not rest:
        shown = [f"{name} = {json.dumps(value)}" for name, value in conversation.settings.items()]
        return "\n".join(shown) or "Nothing is set."
    name, _, text = rest.partition(" ")
    _known_setting(name)
    if not text:
        conversation.settings.pop(name, None)
        return f"{name} is unset."
    try:
        conversation.settings[name] = json.loads(text)
    except ValueError:
        conversation.settings[name] = text.strip()
    return f"{name} = {json.dumps(conversation.settings[name])}"


def _known_setting(name: str) -> None:
    from blixt.llm.server.requests import CHAT_NAMES
    from blixt.llm.terminal_model import UNTOLD

    if name not in CHAT_NAMES or name in UNTOLD:
        raise PromptError(
            f"there is no setting {name!r}; temperature, top_p, top_k, max_tokens, seed are some"
        )


def _save(conversation: Conversation, rest: str) -> str:
    if not rest:
        raise PromptError("/save needs the name of a file")
    try:
        conversation.save(Path(rest).expanduser())
    except OSError as error:
        raise PromptError(f"{rest} cannot be written: {error.strerror}") from None
    return f"Saved to {rest}."


def _load(conversation: Conversation, rest: str) -> str:
    if not rest:
        raise PromptError("/load needs the name of a file")
    conversation.load(Path(rest).expanduser())
    return f"Loaded {len(conversation.said)} messages."


def _history(conversation: Conversation, rest: str) -> str:
    shown = [f"{message['role']}: {message['content']}" for message in conversation.messages]
    return "\n".join(shown) or "Nothing was said yet."


def _exit(conversation: Conversation, rest: str) -> str:
    raise Left


_COMMANDS: dict[str, Callable[[Conversation, str], str]] = {
    "help": lambda conversation, rest: HELP,
    "reset": _reset,
    "system": _system,
    "undo": _undo,
    "set": _set,
    "save": _save,
    "load": _load,
    "history": _history,
    "exit": _exit,
    "quit": _exit,
}


def talk(partner: "Partner", conversation: Conversation, screen: "Screen", *, interactive: bool) -> None:
    """Ask and answer until the end of input.

    Raises:
        LLMError: Without a terminal, what would be shown there.
    """
    if interactive:
        screen.note(f"{partner.name}. /help lists commands, Ctrl-D ends.")
    while (text := _ask(interactive, screen)) is not None:
        try:
            text = _obeyed(conversation, text, screen)
            if text is None:
                continue
            conversation.ask(text)
            dropped = conversation.trim(partner.fits)
            if dropped and interactive:
                screen.note(f"The oldest {dropped} messages no longer fit and are left out.")
            conversation.hear(_answer(partner, conversation, screen))
        except Left:
            return
        except LLMError as error:
            if not interactive:
                raise
            if conversation.said and conversation.said[-1]["role"] == "user":
                conversation.said.pop()
            screen.note(f"{error}.")


def _obeyed(conversation: Conversation, text: str, screen: "Screen") -> str | None:
    """What to ask the model: the text, or the last message once more; None after another command."""
    if not text.startswith("/") or "\n" in text:
        return text
    if text.strip() == "/retry":
        last = conversation.undo()
        if last is None:
            raise PromptError("nothing was said yet")
        return last
    shown = command(conversation, text)
    if shown:
        screen.note(shown)
    return None


def _answer(partner: "Partner", conversation: Conversation, screen: "Screen") -> str:
    """Show an answer as it comes; Ctrl-C stops it, and what was said until then stays."""
    kept: list[str] = []
    with (
        stoppable() as stopped,
        screen,
        closing(partner.answer(conversation.messages, conversation.settings)) as pieces,
    ):
        try:
            for piece in pieces:
                screen.show(piece)
                if piece.kind == "content":
                    kept.append(piece.text)
                if stopped():
                    break
        except KeyboardInterrupt:  # the second Ctrl-C, while nothing came
            pass
    return "".join(kept)


@contextmanager
def stoppable() -> Generator[Callable[[], bool]]:
    """Let the first Ctrl-C be asked about, so that nothing breaks half way, and only the second interrupt."""
    count = 0

    def interrupt(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: count > 0
    finally:
        signal.signal(signal.SIGINT, before)


def _ask(interactive: bool, screen: "Screen") -> str | None:
    """The next message that is not empty; None at the end of input."""
    while True:
        try:
            text = _message(interactive)
        except KeyboardInterrupt:
            screen.note("Ctrl-D or /exit ends.")
            continue
        if text is None or text.strip():
            return text


def _message(interactive: bool) -> str | None:
    """One message, which may have several lines; None at the end of input."""
    line = _line("> ", interactive)
    if line is None:
        return None
    lines: list[str] = []
    if line.lstrip().startswith(QUOTES):
        line = line.lstrip().removeprefix(QUOTES)
        while not line.rstrip().endswith(QUOTES):
            lines.append(line)
            following = _line(". ", interactive)
            if following is None:
                return "\n".join(lines)
            line = following
        return "\n".join([*lines, line.rstrip().removesuffix(QUOTES)]).strip("\n")
    while line.endswith("\\"):
        lines.append(line[:-1])
        line = _line(". ", interactive) or ""
    return "\n".join([*lines, line])


def _line(prompt: str, interactive: bool) -> str | None:
    if interactive:
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives `input` its editing keys

        try:
            return input(prompt)
        except EOFError:
            return None
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None
