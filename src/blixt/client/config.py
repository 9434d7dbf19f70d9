"""Where is the server, and who am I: from arguments, the environment, a login, or a local server."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from blixt.client.errors import NotConfigured


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's address, a token for it, and the teamspace to work in.

    Attributes:
        url: Such as `http://127.0.0.1:8480`, without a slash at the end.
        token: The bearer token.
        teamspace: The teamspace's name, or None to ask the server for the first one.
        origin: In words, where this came from; error messages quote it.
    """

    url: str
    token: str
    teamspace: str | None
    origin: str


def credentials_path() -> Path:
    """The file that `blixt login` writes: `~/.config/blixt/credentials.json` (or XDG_CONFIG_HOME)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "blixt" / "credentials.json"


def default_data_dir() -> Path:
    """The folder of the local server: BLIXT_DATA_DIR, else `~/.blixt`."""
    return Path(os.environ.get("BLIXT_DATA_DIR") or Path.home() / ".blixt").expanduser()


def find_connection(
    url: str | None = None, token: str | None = None, teamspace: str | None = None
) -> Connection:
    """Find the server to talk to; the first source that names one wins.

    The order: arguments; BLIXT_URL and BLIXT_TOKEN; the folder named by BLIXT_DATA_DIR; `blixt login`;
    the local server in `~/.blixt`. A token that is not given is looked up for the same url.

    Raises:
        NotConfigured: When nothing names a server, or there is no token for it.
    """
    teamspace = teamspace or os.environ.get("BLIXT_TEAMSPACE") or None
    token = token or os.environ.get("BLIXT_TOKEN") or None
    candidates = _candidates()
    if url or os.environ.get("BLIXT_URL"):
        origin = "the argument" if url else "BLIXT_URL"
        address = _clean(url or os.environ["BLIXT_URL"])
        return _with_token(address, token, teamspace, origin, candidates)
    for found in candidates:
        return Connection(found.url, token or found.token, teamspace or found.teamspace, found.origin)
    raise NotConfigured(
        "No blixt server is known.",
        "Start one with `blixt up`, sign in to one with `blixt login URL`, or set BLIXT_URL and BLIXT_TOKEN.",
    )


def _with_token(
    url: str, token: str | None, teamspace: str | None, origin: str, candidates: list[Connection]
) -> Connection:
    """Complete an address given by hand with the token that a login or a local server holds for it."""
    if token:
        return Connection(url, token, teamspace, origin)
    for found in candidates:
        if found.url == url:
            return Connection(url, found.token, teamspace or found.teamspace, origin)
    raise NotConfigured(
        f"There is no token for {url}.", f"Sign in with `blixt login {url}`, or set BLIXT_TOKEN."
    )


def _candidates() -> list[Connection]:
    """Every server that this machine knows of, the most explicit first."""
    explicit = [_local_server(default_data_dir())] if os.environ.get("BLIXT_DATA_DIR") else []
    found = [*explicit, _login(), _local_server(default_data_dir())]
    return [connection for connection in found if connection]


def _login() -> Connection | None:
    path = credentials_path()
    fields = _read_json(path)
    if not fields:
        return None
    return Connection(
        url=_clean(str(fields["url"])),
        token=str(fields["token"]),
        teamspace=str(fields["teamspace"]) if fields.get("teamspace") else None,
        origin=str(path),
    )


def _local_server(data_dir: Path) -> Connection | None:
    fields = _read_json(data_dir / "server.json")
    token_file = data_dir / "token"
    if not fields or not token_file.exists():
        return None
    return Connection(_clean(str(fields["url"])), token_file.read_text().strip(), None, str(data_dir))


def _read_json(path: Path) -> dict[str, Any]:
    """The file's object; empty when there is no file, a clear error when it is not what it should be."""
    if not path.is_file():
        return {}
    try:
        value: object = json.loads(path.read_text())
    except ValueError:
        value = None
    if not isinstance(value, dict) or "url" not in value:
        raise NotConfigured(
            f"{path} is not a file that blixt wrote.", "Delete it, then sign in or start again."
        )
    return cast(dict[str, Any], value)


def save_credentials(connection: Connection) -> Path:
    """Remember a sign-in for this user, readable by this user only."""
    path = credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fields = {"url": connection.url, "token": connection.token, "teamspace": connection.teamspace}
    unfinished = path.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(fields, file, indent=2)
    unfinished.replace(path)
    return path


def forget_credentials() -> bool:
    """Remove the saved sign-in; False when there was none."""
    path = credentials_path()
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def _clean(url: str) -> str:
    """`127.0.0.1:8480/` and `http://127.0.0.1:8480` name the same server."""
    url = url.strip().rstrip("/")
    return url if "://" in url else f"http://{url}"
