"""Blobs: bytes a teamspace keeps by their hash, such as the source of a Job."""

import time
from pathlib import Path

import sqlalchemy as sa

from blixt.cloud.db import Database
from blixt.cloud.db.tables import blobs
from blixt.cloud.errors import NotFound
from blixt.cloud.identity.audit import append as audit_append
from blixt.cloud.registry.content import ContentStore, Upload


class Blobs:
    """Content-addressed bytes, visible only in the teamspaces that uploaded them.

    Args:
        db: The database.
        content: Where the bytes are kept.
    """

    def __init__(self, db: Database, content: ContentStore) -> None:
        self._db = db
        self.content = content

    def put(self, teamspace: str, upload: Upload, *, actor: str) -> tuple[str, int]:
        """Keep an upload; return its id (sha256) and size in bytes. The same bytes again are no error."""
        now = time.time()
        with self._db.write() as s:
            sha256, size_bytes = self.content.keep(upload)
            key = (blobs.c.teamspace == teamspace) & (blobs.c.sha256 == sha256)
            if s.execute(sa.select(blobs.c.sha256).where(key)).first() is None:
                s.execute(
                    blobs.insert().values(
                        teamspace=teamspace,
                        sha256=sha256,
                        size_bytes=size_bytes,
                        created_by=actor,
                        created_at=now,
                    )
                )
                audit_append(s, actor, "create", "blob", teamspace, sha256, at=now)
        return sha256, size_bytes

    def path(self, teamspace: str, blob_id: str) -> Path:
        """Return the file that holds a blob.

        Raises:
            NotFound: When the teamspace has no such blob.
        """
        key = (blobs.c.teamspace == teamspace) & (blobs.c.sha256 == blob_id)
        with self._db.read() as s:
            found = s.execute(sa.select(blobs.c.sha256).where(key)).first()
        if found is None:
            raise NotFound(f"There is no blob {blob_id[:80]!r} in {teamspace!r}.", "Upload it first.")
        return self.content.path(found.sha256)
