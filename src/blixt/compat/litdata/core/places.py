"""Where data lies, as LitData's users say it: paths, `Dir`s, and options of boto3 or object stores."""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from blixt.compat.litdata.core.refuse import UnsupportedArgument

_CREDENTIALS = {
    "access_key_id": "access_key_id",
    "secret_access_key": "secret_access_key",
    "session_token": "session_token",
    "account_name": "account_name",
    "account_key": "account_key",
    "sas_token": "sas_token",
    "token": "token",
}
_OPTIONS = {"endpoint": "endpoint", "endpoint_url": "endpoint", "region": "region", "region_name": "region"}
_TIME = re.compile(r"\{(%[^{}]*)\}")
_SCHEMES = {"r2": "s3", "azure": "az", "gcs": "gs"}


@dataclass
class Dir:
    """A folder here and, where there is one, its address in a store."""

    path: str | None = None
    url: str | None = None


def location_of(place: str | Path | Dir) -> str:
    """Return the address that a path, a `Dir` or a URL means; `{%Y-%m-%d}` in it is the time now."""
    text: str | None = place.url or place.path if isinstance(place, Dir) else os.fspath(place)
    if not text:
        raise ValueError("a dataset needs a path or a URL")
    if text.startswith("local:"):
        text = text.removeprefix("local:")
    text = _TIME.sub(lambda found: datetime.now().strftime(found[1]), text)
    scheme, colon, rest = text.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}://{rest}" if colon else text


def store_arguments(storage_options: dict[str, Any] | None) -> dict[str, Any]:
    """Return `credentials` and `options` of ours for LitData's `storage_options`.

    Raises:
        UnsupportedArgument: for an option that is not known here.
    """
    credentials: dict[str, str] = {}
    options: dict[str, str] = {}
    unsigned = False
    for name, value in (storage_options or {}).items():
        plain = name.lower().removeprefix("aws_").removeprefix("azure_storage_").removeprefix("google_")
        if plain in _CREDENTIALS:
            credentials[_CREDENTIALS[plain]] = str(value)
        elif plain in _OPTIONS:
            options[_OPTIONS[plain]] = str(value)
        elif plain in ("skip_signature", "no_sign_request"):
            unsigned = bool(value)
        else:
            raise UnsupportedArgument(
                f"storage_options[{name!r}] is not known here; known are "
                f"{', '.join(sorted({*_CREDENTIALS, *_OPTIONS, 'skip_signature'}))}"
            )
    found: dict[str, Any] = {"options": options} if options else {}
    if unsigned:
        return {**found, "credentials": "unsigned"}
    return {**found, "credentials": credentials} if credentials else found
