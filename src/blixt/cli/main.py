"""From words to a command: find its file, run it, turn whatever happens into an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blixt.cli.commands import COMMANDS, Command, help_text

if TYPE_CHECKING:
    import typer

_COMPLETION = ("--install-completion", "--show-completion")


def main(argv: Sequence[str] | None = None) -> None:
    """The console script: runs the command line and exits with its code."""
    sys.exit(run_command_line(list(sys.argv[1:] if argv is None else argv)))


def run_command_line(args: list[str]) -> int:
    """Run one command line.

    Args:
        args: The words after `blixt`.

    Returns:
        0 when all went well, 1 after an error, 2 when the words make no sense, 130 after Ctrl-C.
    """
    if "_BLIXT_COMPLETE" in os.environ or (args and args[0] in _COMPLETION):
        return guarded(lambda: complete_app()(args, prog_name="blixt", standalone_mode=False))
    if not args or args[0] in ("-h", "--help", "help"):
        codes = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
        print(help_text(bold=codes[0], plain=codes[1]))
        return 0
    if args[0] in ("-V", "--version", "version"):
        from blixt import __version__

        print(f"blixt {__version__}")
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        return _unknown(args[0])
    return guarded(lambda: _call(args[0], command, args[1:]))


def complete_app() -> "typer.Typer":
    """Every command in one typer app: for shell completion, which needs them all."""
    import typer

    app = typer.Typer(name="blixt", help="Train, serve and run AI on hardware you choose.")
    for name, command in COMMANDS.items():
        target = _load(command)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, help=command.help)
        else:
            app.command(name, context_settings=_settings(command))(target)
    return app


def guarded(call: Callable[[], Any]) -> int:
    """Call, and say in a sentence what went wrong; with BLIXT_DEBUG=1 the traceback comes too."""
    from blixt.cli.failure import report

    try:
        result = call()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough: leave without Python's own complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("BLIXT_DEBUG") == "1":
            raise
        return report(error)


def _call(name: str, command: Command, args: list[str]) -> Any:
    import typer

    target = _load(command)
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name, context_settings=_settings(command))(target)
        target = app
    return target(args, prog_name=f"blixt {name}", standalone_mode=False)


def _load(command: Command) -> Any:
    return getattr(import_module(f"blixt.cli.{command.module}"), command.attribute)


def _settings(command: Command) -> dict[str, Any]:
    return {"allow_interspersed_args": not command.own_words}


def _unknown(word: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
    hint = f"Did you mean `blixt {near[0]}`?" if near else "`blixt --help` lists the commands."
    print(f"error: There is no command {word!r}.\nhint: {hint}", file=sys.stderr)
    return 2
