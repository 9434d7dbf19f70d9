"""From an address to a store."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from blixt.data.store.base import Store
from blixt.data.store.cloud import CloudStore
from blixt.data.store.credentials import Credentials
from blixt.data.store.errors import StoreError
from blixt.data.store.hub import HubStore
from blixt.data.store.local import LocalStore
from blixt.data.store.signed import SignedStore
from blixt.data.store.vendors import at_r2
from blixt.data.store.web import WebStore

Location = str | Path | Mapping[str, str] | list[str]
"""Where data lies; a mapping or a list holds presigned URLs."""

_CLOUD = ("s3", "gs", "az")
_ALSO = {"gcs": "gs", "azure": "az", "r2": "s3"}
"""Other names of those: Cloudflare's R2 speaks S3."""


def open_store(
    location: Location, *, credentials: Credentials = None, options: Mapping[str, str] | None = None
) -> Store:
    """Return the store at an address. Nothing is asked of the network yet.

    Args:
        location: a folder (a path or `file://`), `s3://bucket/folder`, `gs://...`, `az://container/folder`
            (or `gcs://`, `azure://`, and `r2://`, which is S3 at the account's `endpoint`);
            read-only: `http(s)://host/folder`, `hf://datasets/owner/name/folder`, or presigned URLs (a list,
            or a mapping from path to URL).
        credentials: None takes them from the environment (and, for S3, from the AWS profile); a mapping gives
            them (`access_key_id`, `secret_access_key`, `session_token` for S3; `token` for Google;
            `account_name` and `account_key`, `sas_token` or `token` for Azure; `token`, or `username` and
            `password`, for the web); a callback returns such a mapping with `expires_at`, and is asked again
            before that time; "unsigned" sends none.
        options: `tries` (6), `timeout_s` of one request (60), `connect_timeout_s` (5), `exclusive` ("false"
            for a store that ignores If-None-Match), and all that obstore knows for the kind of store, such
            as `endpoint` and `region`. An endpoint that begins with http:// is spoken to without TLS.

    Raises:
        StoreError: for an address of an unknown kind.
    """
    if isinstance(location, Path):
        return LocalStore(location)
    if isinstance(location, (Mapping, list)):
        return SignedStore(location, credentials, options or {})
    if not isinstance(location, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a location is a path, an address, or presigned URLs, got {location!r}")
    parts = urlsplit(location)
    if parts.scheme in _ALSO:
        location = f"{_ALSO[parts.scheme]}{location[len(parts.scheme) :]}"
        if parts.scheme == "r2":
            options = at_r2(location, options or {})
        return CloudStore(location, credentials, options or {})
    if parts.scheme in _CLOUD:
        return CloudStore(location, credentials, options or {})
    if parts.scheme in ("http", "https"):
        return WebStore(location, credentials, options or {})
    if parts.scheme == "hf":
        return HubStore(location, credentials, options or {})
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)))
    if "://" in location:
        raise StoreError(
            f"cannot open {location}: {parts.scheme}:// is not known; use a folder, "
            f"{', '.join(f'{scheme}://' for scheme in (*_CLOUD, 'https', 'hf'))}"
        )
    return LocalStore(Path(location))
