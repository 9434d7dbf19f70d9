"""Where data lies: a folder, a bucket, a web server or a hub, all read and written by the same few verbs.

`open_store` gives a `Store` for an address. Paths in it are relative; ranges are half-open; an object appears
whole or not at all. Reads are tried again a bounded number of times, and then an error says which address did
not answer and what to do.
"""

from blixt.data.store.base import Range, Store
from blixt.data.store.credentials import CredentialCallback, Credentials
from blixt.data.store.errors import (
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    TruncatedError,
    UnavailableError,
    UnsupportedError,
)
from blixt.data.store.local import LocalStore
from blixt.data.store.open import Location, open_store

__all__ = [
    "CredentialCallback",
    "Credentials",
    "LocalStore",
    "Location",
    "NotFoundError",
    "PermissionDeniedError",
    "Range",
    "Store",
    "StoreError",
    "TruncatedError",
    "UnavailableError",
    "UnsupportedError",
    "open_store",
]
