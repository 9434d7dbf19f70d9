"""What went wrong, for people: one sentence and a hint on stderr, never a traceback."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

EXTRA_OF_ROOM = {
    "cloud": "cloud",
    "data": "data",
    "llm": "llm",
    "serve": "serve",
    "demo": "demo",
    "fabric": "train",
}


class CliError(Exception):
    """Something a command found wrong.

    Attributes:
        message: One sentence: what, and where.
        hint: What to do next.
        exit_code: 1, or 2 for wrong usage.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def report(error: Exception) -> int:
    """Print an error to stderr and return the exit code for it."""
    message, hint, exit_code = explain(error)
    print(f"{_red('error:')} {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return exit_code


def explain(error: Exception) -> tuple[str, str, int]:
    """The sentence, the hint and the exit code for an error."""
    from blixt.client import BlixtError

    if isinstance(error, CliError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, BlixtError):
        return error.message, error.hint, 1
    if isinstance(error, typer.TyperException):
        message = " ".join(error.format_message().split())
        hint = "Add --help to see how it is used."
        if message.startswith("No such option"):
            hint = "Add --help to see the options; a command of your own comes after `--`."
        return message, hint, error.exit_code
    if isinstance(error, typer.Abort):
        return "Stopped.", "", 130
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}.", "", 1
    return (
        f"Unexpected {type(error).__name__}: {' '.join(str(error).split())[:500]}",
        "Run it again with BLIXT_DEBUG=1 to see the traceback.",
        1,
    )


@contextmanager
def room(name: str, *known: str) -> Generator[None, None, None]:
    """Import and call a room: say which extra is missing, and pass on what its own errors say.

    Args:
        name: The room, such as `llm`.
        known: Names of the room's error classes (of any base) whose text is already a clear sentence.

    Raises:
        CliError: In place of those.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRA_OF_ROOM[name]
        raise CliError(
            f"This needs blixt[{extra}] (the module {error.name!r} is not installed).",
            f"pip install 'blixt[{extra}]'",
        ) from error
    except Exception as error:
        if not any(base.__name__ in known for base in type(error).__mro__):
            raise
        sentence = str(getattr(error, "message", "") or error)
        exit_code = int(getattr(error, "exit_code", 1))
        raise CliError(sentence, str(getattr(error, "hint", "")), exit_code) from error


def _red(text: str) -> str:
    return f"\033[31;1m{text}\033[0m" if sys.stderr.isatty() else text
