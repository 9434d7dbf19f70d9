"""Arguments of LitData that have no counterpart here."""

from typing import Any


class UnsupportedArgument(TypeError):
    """An argument that LitData has and this door does not; the message says what to do instead."""


def refuse(function: str, instead: str = "", **arguments: Any) -> None:
    """Refuse arguments that are set.

    Args:
        function: which one has the argument.
        instead: what to do.
        arguments: by name; those that are None, False or empty were not set.

    Raises:
        UnsupportedArgument: when one is set.
    """
    for name, value in arguments.items():
        if value is not None and value is not False and value != {} and value != "":
            raise UnsupportedArgument(
                f"{function}({name}=...) of LitData is not supported by blixt.compat.litdata"
                + (f"; {instead}" if instead else "; leave it out")
            )
