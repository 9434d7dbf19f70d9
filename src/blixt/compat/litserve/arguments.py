"""The arguments of `LitServer`, checked and turned into blixt's."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from blixt.serve import Limits

if TYPE_CHECKING:
    from .api import LitAPI


def check_paths(apis: "Sequence[LitAPI]", own: Mapping[str, str]) -> None:
    """No LitAPI may have a path of the server's own.

    Args:
        apis: The server's.
        own: Its paths, by the argument that names them.

    Raises:
        ValueError: A path is none, or taken.
    """
    for name, path in own.items():
        if not path.startswith("/"):
            raise ValueError(f"{name} must start with '/'. Got {path!r}; write for example '/{name[:6]}'.")
    taken = {path: f"LitServe {name.removesuffix('_path')}" for name, path in own.items()}
    for api in apis:
        if api.spec is None and api.api_path in taken:
            raise ValueError(f"api_path {api.api_path} is already in use by {taken[api.api_path]}")
        taken[api.api_path] = type(api).__name__


def check_routes(workers: Any, apis: "Sequence[LitAPI]") -> None:
    """A dict of `workers_per_device` names paths that there are.

    Raises:
        ValueError: It does not.
    """
    if isinstance(workers, Mapping):
        unknown = {str(path) for path in cast(Mapping[Any, Any], workers)} - {api.api_path for api in apis}
        if unknown:
            raise ValueError(f"workers_per_device names unknown api_path {min(unknown)!r}")


def limits_of(max_payload_size: float | None) -> Limits:
    """blixt's bounds where LitServe has others, or none."""
    # A request that a worker has begun runs on, however late: LitServe's timeout is of those that wait.
    # It ends its workers at once; ours finish what was admitted first, so one that still starts up then, or
    # hangs, need not be waited for as long: hosts of an app give its lifespan some 5 s to end.
    limits = Limits(running_timeout=False, stop_s=2.0)
    if max_payload_size is None:
        return dataclasses.replace(limits, max_payload_bytes=sys.maxsize)
    return dataclasses.replace(limits, max_payload_bytes=int(max_payload_size))


def port_of(port: str | int) -> int:
    """A port as a number.

    Raises:
        ValueError: It is none that LitServe takes.
    """
    number = int(port) if str(port).isdigit() else -1
    if not 1024 <= number <= 65535:
        raise ValueError(f"port must be a value from 1024 to 65535 but got {port}")
    return number


def json_of(metadata: Any) -> Any:
    """`model_metadata`, which `/info` shows.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        json.dumps(metadata)
    except (TypeError, ValueError):
        raise ValueError("model_metadata must be JSON serializable.") from None
    return metadata
