"""What fabric and trainer say when they cannot do what was asked: one sentence, with what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class FabricError(Exception):
    """Base of every error that fabric and trainer raise on purpose."""


class ConfigError(FabricError, ValueError):
    """An argument has a value that cannot work.

    Args:
        argument: Name of the argument, with its owner: `Trainer(devices)`.
        value: What was given.
        reason: Why it cannot work.
        fix: What to do instead.
    """

    def __init__(self, argument: str, value: object, reason: str, fix: str) -> None:
        owner, _, name = argument.rstrip(")").partition("(")
        given = f"{owner}({name}={value!r})" if name else f"{argument}={value!r}"
        super().__init__(f"{given}: {reason}. {fix}.")
        self.argument = argument
        self.value = value
        self.reason = reason
        self.fix = fix

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, object, str, str]]:
        return type(self), (self.argument, self.value, self.reason, self.fix)


class UnknownArgumentError(ConfigError, TypeError):
    """A keyword that does not exist; names the nearest one that does."""


class WrongTypeError(ConfigError, TypeError):
    """An argument has a type that cannot work."""


class MissingMethodError(ConfigError, AttributeError):
    """Something is asked of an object that has no such thing."""


class MissingVariableError(ConfigError, KeyError):
    """An environment variable is needed and not set."""

    def __str__(self) -> str:
        """The sentence; a KeyError would show it in quotes."""
        return str(self.args[0])


class UsageError(FabricError, RuntimeError):
    """A verb was called at a moment, or in a way, in which it cannot work."""


class LaunchError(FabricError, RuntimeError):
    """Processes could not be started, or one of them failed."""


class CheckpointError(FabricError, RuntimeError):
    """A checkpoint could not be written, found or read."""


class MissingPackageError(FabricError, ImportError):
    """An optional package is needed.

    Args:
        owner: What needs it: `WandbLogger`.
        package: Its name on PyPI.
        cause: What Python said.
    """

    def __init__(self, owner: str, package: str, cause: BaseException | None = None) -> None:
        detail = f" ({cause})" if cause is not None and not isinstance(cause, ModuleNotFoundError) else ""
        super().__init__(f"{owner} needs the package {package}{detail}. Install it: pip install {package!r}.")


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no checkpoint where one was looked for."""


class MissingEntryError(CheckpointError, KeyError):
    """A checkpoint lacks a name that was asked for."""

    def __str__(self) -> str:
        """The sentence; a KeyError would show it in quotes."""
        return str(self.args[0])


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that helps someone who misspelt `name`."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(names)}"


def reject_unknown(owner: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the first keyword in `unknown`; do nothing when there is none."""
    for name in unknown:
        hint = nearest(name, known).rstrip("?")
        raise UnknownArgumentError(f"{owner}({name})", "...", "there is no such argument", hint)
