"""The list of a store's files, kept on disk: listing a bucket of millions takes minutes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from blixt.data.errors import FormatError
from blixt.data.raw.group import RawFile
from blixt.data.shard.layout import crc32c
from blixt.data.store import LocalStore, NotFoundError, Store

_FORMAT = "blixt.listing"


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a store, in the order of their paths.

    Attributes:
        files: path and size of each.
        crc32c: a checksum of all paths and sizes, by which a state knows the listing.
    """

    files: Sequence[RawFile]
    crc32c: int

    @classmethod
    def of(cls, store: Store, pattern: str | None = None) -> "Listing":
        """List a store.

        Args:
            store: the files.
            pattern: only paths that match it, such as `train/*.jpg`; `*` also stands for `/`.

        Raises:
            UnsupportedError: when the store cannot be listed.
        """
        found = sorted(store.list())
        return cls._made(
            [RawFile(*file) for file in found if pattern is None or fnmatchcase(file[0], pattern)]
        )

    @classmethod
    def kept(cls, place: Path, store: Store, pattern: str | None = None, *, renew: bool = False) -> "Listing":
        """Return the listing kept in a file; list the store and keep it when there is none.

        Args:
            place: the file.
            store: the files that it lists.
            pattern: see `of`.
            renew: list anew.

        Raises:
            FormatError: when the file is none, or lists another store.
        """
        if not renew:
            try:
                return cls._read(LocalStore(place.parent).get(place.name), place, store, pattern)
            except NotFoundError:
                pass
        listing = cls.of(store, pattern)
        stored = {"format": _FORMAT, "location": store.location, "pattern": pattern, "files": listing.files}
        LocalStore(place.parent).put(place.name, json.dumps(stored, separators=(",", ":")).encode())
        return listing

    @classmethod
    def _read(cls, stored: bytes, place: Path, store: Store, pattern: str | None) -> "Listing":
        try:
            content: dict[str, Any] = json.loads(stored)
            what = content["format"], content["location"], content["pattern"]
            files = [RawFile(str(path), int(size)) for path, size in content["files"]]
        except (ValueError, KeyError, TypeError):
            raise FormatError(f"{place} is no listing; delete it, or pass relist=True") from None
        if what != (_FORMAT, store.location, pattern):
            raise FormatError(
                f"{place} lists {what[1]} with the pattern {what[2]!r} and not {store.location} with "
                f"{pattern!r}; choose another file, or pass relist=True"
            )
        return cls._made(files)

    @classmethod
    def _made(cls, files: list[RawFile]) -> "Listing":
        return cls(files, crc32c(json.dumps(files, separators=(",", ":")).encode()))


def listing_name(location: str, pattern: str | None) -> str:
    """Return the file name under which a store's listing is kept."""
    return f"listing-{sha256(json.dumps([location, pattern]).encode()).hexdigest()[:32]}.json"
