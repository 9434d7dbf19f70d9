"""The connection to a server, and everything that belongs to no single object."""

import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from blixt.client.config import Connection, find_connection
from blixt.client.errors import NotFound
from blixt.client.http import Transport, escape
from blixt.client.pack import pack
from blixt.client.read import read_bill, read_identity, read_member, record
from blixt.client.types import Bill, Identity, Machine, Member, ObjectData, Teamspace


class Client:
    """A signed-in connection to a blixt server, bound to one teamspace.

    Args:
        url: The server; by default BLIXT_URL, then the data folder named by BLIXT_DATA_DIR, then what
            `blixt login` saved, then the local server that `blixt up` started.
        token: The bearer token; found the same way.
        teamspace: The teamspace to work in; by default BLIXT_TEAMSPACE, the login's, or your first one.
        timeout_s: How long one answer may take.

    Example:
        >>> from blixt.client import Client
        >>> client = Client()                           # doctest: +SKIP
        >>> client.whoami().user                        # doctest: +SKIP
        'admin'

    Raises:
        NotConfigured: When no server or no token can be found; the hint says what to do.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        teamspace: str | None = None,
        *,
        timeout_s: float = 30.0,
    ) -> None:
        self.connection: Connection = find_connection(url, token, teamspace)
        self.http = Transport(self.connection, timeout_s=timeout_s)

    @property
    def url(self) -> str:
        """The server's address."""
        return self.connection.url

    @cached_property
    def teamspace(self) -> str:
        """The teamspace that this client works in."""
        if self.connection.teamspace:
            return self.connection.teamspace
        mine = self.whoami().teamspaces
        if not mine:
            raise NotFound("You are a member of no teamspace.", "Ask its owner: `blixt members add NAME`.")
        return mine[0].name

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections; the client cannot be used afterwards."""
        self.http.close()

    def path(self, *parts: str) -> str:
        """The API path of something in this teamspace: `client.path("jobs", "train", "stop")`."""
        return "/".join(["/teamspaces", escape(self.teamspace), *map(escape, parts)])

    # The server and you

    def health(self) -> dict[str, Any]:
        """The server's own word that it is up: `{"status": "ok", "version": ...}`."""
        return self.http.json("GET", "/health")

    def whoami(self) -> Identity:
        """Your user, your teamspaces and roles, the server's version."""
        return read_identity(self.http.json("GET", "/whoami"))

    def console_url(self) -> str:
        """A link that signs a browser in to the console, good for one use."""
        url = str(self.http.json("POST", "/login/ticket")["url"])
        return url if "://" in url else f"{self.url}/{url.lstrip('/')}"

    def machines(self) -> list[Machine]:
        """The machines on offer, with their prices."""
        return [record(Machine, item) for item in self.http.json("GET", "/machines")["items"]]

    # Objects of any kind, as data; the classes Studio, Job ... build on these

    def list_objects(self, plural: str, *, label: str | None = None) -> list[ObjectData]:
        """All objects of a kind (`"jobs"`) in this teamspace, optionally those with a label `k=v`."""
        found = self.http.json("GET", self.path(plural), params={"label": label})
        return [ObjectData.from_json(item) for item in found["items"]]

    def get_object(self, plural: str, name: str) -> ObjectData:
        """One object by name; raises NotFound."""
        return ObjectData.from_json(self.http.json("GET", self.path(plural, name)))

    def create_object(
        self, plural: str, name: str, spec: dict[str, Any], *, labels: dict[str, str] | None = None
    ) -> ObjectData:
        """Create an object; raises Conflict when the name is taken."""
        body = {"name": name, "spec": spec, "labels": labels or {}}
        return ObjectData.from_json(self.http.json("POST", self.path(plural), body=body))

    def update_object(self, plural: str, data: ObjectData, spec: dict[str, Any]) -> ObjectData:
        """Replace the spec that you have read; raises Conflict when someone changed it meanwhile."""
        body = {"revision": data.revision, "spec": spec, "labels": data.labels}
        return ObjectData.from_json(self.http.json("PUT", self.path(plural, data.name), body=body))

    def patch_object(self, plural: str, name: str, spec: dict[str, Any]) -> ObjectData:
        """Change some fields of a spec, whatever the others are now."""
        return ObjectData.from_json(self.http.json("PATCH", self.path(plural, name), body={"spec": spec}))

    def delete_object(self, plural: str, name: str) -> None:
        """Ask for an object's deletion; it vanishes when its machines are cleaned up."""
        self.http.json("DELETE", self.path(plural, name))

    # Files

    def upload_source(self, source: str | os.PathLike[str]) -> str:
        """Pack a folder and store it; the id goes into a spec's `source`."""
        return str(self.http.post_content(self.path("blobs"), pack(source))["id"])

    def download_to(self, path: str, dest: Path, *, params: dict[str, str] | None = None) -> int:
        """Stream an answer into a file that appears only when it is whole; returns its size in bytes."""
        dest.parent.mkdir(parents=True, exist_ok=True)
        unfinished = dest.with_name(dest.name + ".part")
        size_bytes = 0
        try:
            with (
                self.http.stream("GET", path, params=params, read_timeout_s=60.0) as response,
                unfinished.open("wb") as file,
            ):
                for chunk in response.iter_bytes():
                    size_bytes += file.write(chunk)
            unfinished.replace(dest)
        finally:
            unfinished.unlink(missing_ok=True)
        return size_bytes

    # Money

    def bill(self, *, since: float | None = None, until: float | None = None) -> Bill:
        """What this teamspace spent: every machine-second at the machine's price.

        Args:
            since: Unix seconds; only segments that ended after it.
            until: Unix seconds; only segments that began before it.
        """
        return read_bill(self.http.json("GET", self.path("bill"), params={"since": since, "until": until}))

    # People

    def teamspaces(self) -> list[Teamspace]:
        """The teamspaces you belong to, with your role in each."""
        return list(self.whoami().teamspaces)

    def create_teamspace(self, name: str) -> None:
        """Create a teamspace; you become its owner."""
        self.http.json("POST", "/teamspaces", body={"name": name})

    def members(self) -> list[Member]:
        """Who belongs to this teamspace."""
        return [read_member(item) for item in self.http.json("GET", self.path("members"))["items"]]

    def set_member(self, user: str, role: str = "member") -> None:
        """Add a user to this teamspace or change their role: `owner`, `member` or `viewer`."""
        self.http.json("PUT", self.path("members", user), body={"role": role})

    def remove_member(self, user: str) -> None:
        """Take a user out of this teamspace."""
        self.http.json("DELETE", self.path("members", user))

    def create_user(self, name: str) -> str:
        """Create a user (owners only) and return their first token, which is shown only now."""
        return str(self.http.json("POST", "/users", body={"name": name})["token"])

    def tokens(self) -> list[dict[str, Any]]:
        """Your tokens, without their secrets."""
        return list(self.http.json("GET", "/tokens")["items"])

    def create_token(self, label: str = "", *, expires_s: float | None = None) -> dict[str, Any]:
        """Make a token for yourself; its secret is in the answer and shown only now."""
        body: dict[str, Any] = {"label": label}
        if expires_s is not None:
            body["expires_s"] = expires_s
        return self.http.json("POST", "/tokens", body=body)

    def revoke_token(self, token_id: str) -> None:
        """Make a token worthless at once."""
        self.http.json("DELETE", f"/tokens/{escape(token_id)}")

    def audit(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest entries of this teamspace's audit log."""
        return list(self.http.json("GET", self.path("audit"), params={"limit": limit})["items"])


_default_lock = threading.Lock()
_default: Client | None = None


def default_client() -> Client:
    """The client that `Studio`, `Job` ... use when none is given; made at first use and kept."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Client()
        return _default


def set_default_client(client: Client | None) -> None:
    """Use this client from now on wherever none is given; None looks it up anew at the next use."""
    global _default
    with _default_lock:
        _default = client
