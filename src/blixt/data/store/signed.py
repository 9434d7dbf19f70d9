"""Objects that are reached by URLs signed in advance, one for each, as a read-only store."""

import copy
from collections.abc import Iterator, Mapping
from posixpath import commonpath
from urllib.parse import unquote, urlsplit

from blixt.data.store.credentials import Credentials, Rolling
from blixt.data.store.errors import NotFoundError, StoreError
from blixt.data.store.web import WebStore


class SignedStore(WebStore):
    """The objects of a list of presigned URLs.

    Args:
        urls: path -> URL; or URLs, whose paths are what they do not have in common.
        credentials: a callback that returns `{"urls": ..., "expires_at": ...}`, asked again before that time;
            None uses `urls` for good.
        options: see `open_store`.
    """

    def __init__(
        self, urls: "Mapping[str, str] | list[str]", credentials: Credentials, options: Mapping[str, str]
    ) -> None:
        if credentials is not None and not callable(credentials):
            raise StoreError(
                "presigned URLs carry their credentials; pass a callback that signs anew, or None"
            )
        super().__init__("presigned", None, options)
        self._urls = _by_path(urls)
        self._fresh = Rolling(credentials) if credentials is not None else None
        self._prefix = ""

    def address(self, path: str) -> str:
        """Return the signed URL of an object.

        Raises:
            NotFoundError: when there is none for it.
        """
        urls = self._urls if self._fresh is None else _by_path(self._fresh.get()["urls"])
        try:
            return urls[self._prefix + path]
        except KeyError:
            raise NotFoundError(
                f"{self._prefix}{path} is not among the {len(urls)} presigned URLs; sign it too"
            ) from None

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size of every object below the folder `prefix`; each size costs a request."""
        below = self._prefix + (f"{prefix.strip('/')}/" if prefix else "")
        for path in tuple(self._urls):
            if path.startswith(below):
                size = self.size(path[len(self._prefix) :])
                if size is not None:
                    yield path[len(self._prefix) :], size

    def sub(self, prefix: str) -> "SignedStore":
        """Return the store of the objects below a folder."""
        below = copy.copy(self)
        below._prefix = f"{self._prefix}{prefix.strip('/')}/"
        below.location = f"presigned/{below._prefix}".rstrip("/")
        return below


def _by_path(urls: "Mapping[str, str] | list[str]") -> Mapping[str, str]:
    if isinstance(urls, Mapping):
        return urls
    paths = [unquote(urlsplit(url).path) for url in urls]
    if not paths:
        return {}
    common = commonpath([path.rpartition("/")[0] or "/" for path in paths])
    return {path[len(common) :].lstrip("/"): url for path, url in zip(paths, urls, strict=True)}
