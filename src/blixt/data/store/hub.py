"""Datasets on a Hugging Face hub as a read-only store: `hf://datasets/owner/name[@revision]/folder`."""

import copy
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from blixt.data.store.credentials import Credentials
from blixt.data.store.errors import NotFoundError, StoreError
from blixt.data.store.web import WebStore

_DEFAULT_ENDPOINT = "https://huggingface.co"


class HubStore(WebStore):
    """The files of a dataset repository, over the hub's `resolve` addresses.

    Args:
        location: `hf://datasets/owner/name/folder`; `name@revision` names a branch, tag or commit (default
            main).
        credentials: `{"token": ...}`; None takes HF_TOKEN or the token that `hf auth login` saved; "unsigned"
            sends none.
        options: see `open_store`; the endpoint is HF_ENDPOINT's, or `endpoint` here.
    """

    def __init__(self, location: str, credentials: Credentials, options: Mapping[str, str]) -> None:
        rest = dict(options)
        endpoint = rest.pop("endpoint", os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT)
        super().__init__(location, _saved_token() if credentials is None else credentials, rest)
        parts = urlsplit(location)
        owner, _, below = parts.path.strip("/").partition("/")
        name, _, folder = below.partition("/")
        if parts.netloc != "datasets" or not owner or not name:
            raise StoreError(f"{location} names no dataset; write hf://datasets/owner/name/folder")
        name, _, revision = name.partition("@")
        self._repository = f"{owner}/{name}"
        self._revision = quote(unquote(revision) or "main", safe="")  # refs%2Fconvert%2Fparquet
        self._folder = folder
        self._endpoint = endpoint.rstrip("/")

    def address(self, path: str) -> str:
        """Return the URL that serves a file; the hub redirects it to where the bytes are."""
        below = "/".join(part for part in (self._folder, path) if part)
        return f"{self._endpoint}/datasets/{self._repository}/resolve/{self._revision}/{quote(below)}"

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size of every file below the folder `prefix`, page by page."""
        below = "/".join(part for part in (self._folder, prefix.strip("/")) if part)
        url: str | None = (
            f"{self._endpoint}/api/datasets/{self._repository}/tree/{self._revision}/{quote(below)}"
            "?recursive=true"
        )
        skip = len(self._folder) + 1 if self._folder else 0
        while url:
            try:
                page = self.fetch("list", prefix, url)
            except NotFoundError:
                return
            for entry in json.loads(page.data):
                if entry["type"] == "file":
                    yield entry["path"][skip:], entry["size"]
            url = _next_page(page.headers.get("Link", ""))

    def sub(self, prefix: str) -> "HubStore":
        """Return the store of the files below a folder."""
        below = copy.copy(self)
        below.location = f"{self.location}/{prefix.strip('/')}"
        below._folder = "/".join(part for part in (self._folder, prefix.strip("/")) if part)
        return below


def _saved_token() -> Credentials:
    token = os.environ.get("HF_TOKEN")
    if not token:
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        file = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
        token = file.read_text().strip() if file.is_file() else ""
    return {"token": token} if token else None


def _next_page(link: str) -> str | None:
    """Return the address in a Link header that says `rel="next"`."""
    for part in link.split(","):
        address, _, relation = part.partition(";")
        if 'rel="next"' in relation:
            return address.strip().strip("<>")
    return None
