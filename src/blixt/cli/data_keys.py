"""The key of an encrypted dataset, from a file: on the command line everybody on the machine would see it."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from blixt.cli.failure import CliError

KeyFile = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="FILE", help="An encrypted dataset's key: a file of its bytes or their hex."
    ),
]
EncryptWith = Annotated[
    str | None,
    typer.Option(
        "--encrypt", metavar="FILE", help="Encrypt with this key: a file of its bytes or their hex."
    ),
]
_HEX = re.compile(rb"\s*((?:[0-9a-fA-F]{2}){16,})\s*")


def key_in(file: str) -> bytes:
    """Return the key in a file.

    Raises:
        CliError: when it cannot be read.
    """
    try:
        content = Path(file).read_bytes()
    except OSError as problem:
        raise CliError(f"cannot read the key in {file}: {problem.strerror}", "", 2) from None
    as_hex = _HEX.fullmatch(content)
    return bytes.fromhex(as_hex[1].decode()) if as_hex else content


def key(file: str | None) -> dict[str, Any]:
    """Arguments for reading an encrypted dataset."""
    return {"key": key_in(file)} if file else {}


def encryption(file: str | None) -> Any:
    """How to encrypt with the key in a file, whose name without its ending tells later which key it was."""
    if file is None:
        return None
    from blixt.data import Encryption

    return Encryption(key_in(file), Path(file).stem)
