"""Libraries that only some readers need."""

from importlib import import_module
from typing import Any

from blixt.data.errors import DataError


def need(module: str, extra: str) -> Any:
    """Import a module that an extra of blixt brings.

    Args:
        module: its name.
        extra: the extra, such as `parquet`.

    Raises:
        DataError: when it is not installed; the message says what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise DataError(
            f"this needs {module.partition('.')[0]}, which is not installed: pip install 'blixt[{extra}]'"
        ) from None
