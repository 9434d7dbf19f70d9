"""Where the specs of OpenAI's APIs answer."""

import warnings
from typing import TYPE_CHECKING

from ..constants import DEFAULT_PATH

if TYPE_CHECKING:
    from ..api import LitAPI


def take_path(lit_api: "LitAPI", usual: str) -> str:
    """The path that a LitAPI was given, with a warning that clients will not find it; else the usual one."""
    given = lit_api._api_path  # pyright: ignore[reportPrivateUsage]
    if given in (DEFAULT_PATH, usual):
        return usual
    warnings.warn(
        f"Custom API path detected: clients of OpenAI ask for {usual}, not for {given}.",
        UserWarning,
        stacklevel=4,
    )
    return given
