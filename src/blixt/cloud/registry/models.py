"""Models: numbered versions, each a set of files that is committed as a whole."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import blobs, model_files, model_versions
from blixt.cloud.errors import Conflict, Invalid, NotFound
from blixt.cloud.identity.audit import append as audit_append
from blixt.cloud.objects import Object, Store
from blixt.cloud.registry.content import ContentStore, Upload

_SEGMENT = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}\Z")


@dataclass(frozen=True)
class ModelFile:
    """One file of a version."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model; complete when its state is `ready`."""

    version: int
    state: str
    files: list[ModelFile]
    metrics: dict[str, Any]
    metadata: dict[str, Any]
    job: str | None
    created_by: str
    created_at: float
    committed_at: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the version as the API sends it."""
        return {**asdict(self), "size_bytes": sum(file.size_bytes for file in self.files)}


class Models:
    """Versions of models and their files.

    Args:
        db: The database.
        store: The object store, which holds the models themselves.
        content: Where the files are kept.
        clock: Returns unix seconds.
    """

    def __init__(
        self, db: Database, store: Store, content: ContentStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self.content = content

    def create_version(
        self,
        teamspace: str,
        model: str,
        *,
        owner: str,
        actor: str,
        client_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        job: str | None = None,
    ) -> ModelVersion:
        """Begin a version, and the model when there is none; the same `client_id` gives the same version."""
        now = self._clock()
        with self._db.write() as s:
            parent = self._store.find("model", teamspace, model, session=s)
            if parent is None:
                parent = self._store.create(
                    "model", teamspace, model, {}, owner=owner, actor=actor, session=s
                )
            if client_id is not None:
                where = (model_versions.c.model_uid == parent.uid) & (model_versions.c.client_id == client_id)
                known = s.execute(sa.select(model_versions).where(where)).mappings().first()
                if known is not None:
                    return _version(s, known)
            number = parent.status["versions"] + 1
            row = {
                "model_uid": parent.uid,
                "version": number,
                "state": "uploading",
                "client_id": client_id,
                "metadata": dict(metadata or {}),
                "metrics": {},
                "job": job,
                "created_by": actor,
                "created_at": now,
                "committed_at": None,
            }
            s.execute(model_versions.insert().values(**row))
            self._store.update_status(parent.uid, {"versions": number}, session=s)
            audit_append(s, actor, "create", "model", teamspace, f"{model}:{number}", at=now)
            return _version(s, row)

    def put_file(self, teamspace: str, model: str, version: int, path: str, upload: Upload) -> ModelFile:
        """Add an uploaded file to a version that is not committed yet, replacing one of the same path.

        Raises:
            Invalid: When the path could leave the version's folder.
            Conflict: When the version is complete.
        """
        check_path(path)
        with self._db.write() as s:
            row = self._row(s, self._model(s, teamspace, model), str(version))
            _check_uploading(row, model)
            sha256, size_bytes = self.content.keep(upload)
            key = _files_of(row) & (model_files.c.path == path)
            s.execute(model_files.delete().where(key))
            s.execute(
                model_files.insert().values(
                    model_uid=row["model_uid"],
                    version=version,
                    path=path,
                    sha256=sha256,
                    size_bytes=size_bytes,
                )
            )
        return ModelFile(path, size_bytes, sha256)

    def check_upload(self, teamspace: str, model: str, version: int, path: str) -> None:
        """Raise what `put_file` would raise, before a large body is read."""
        check_path(path)
        with self._db.read() as s:
            _check_uploading(self._row(s, self._model(s, teamspace, model), str(version)), model)

    def commit(
        self,
        teamspace: str,
        model: str,
        version: int,
        *,
        actor: str,
        metrics: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Make a version complete and visible as the latest; committing twice is no error.

        Raises:
            Conflict: When the version has no files.
        """
        now = self._clock()
        with self._db.write() as s:
            parent = self._model(s, teamspace, model)
            row = self._row(s, parent, str(version))
            if row["state"] == "ready":
                return _version(s, row)
            if s.execute(sa.select(model_files.c.path).where(_files_of(row))).first() is None:
                raise Conflict(f"Version {version} of model {model!r} has no files.", "Upload some first.")
            values = {"state": "ready", "metrics": dict(metrics or {}), "committed_at": now}
            s.execute(model_versions.update().where(_key(row)).values(**values))
            latest = max(version, parent.status["latest_version"] or 0)
            self._store.update_status(parent.uid, {"latest_version": latest}, session=s)
            audit_append(s, actor, "update", "model", teamspace, f"{model}:{version}", at=now)
            return _version(s, {**row, **values})

    def versions(self, teamspace: str, model: str) -> Sequence[ModelVersion]:
        """Return a model's versions, newest first, those still uploading included."""
        with self._db.read() as s:
            parent = self._model(s, teamspace, model)
            query = sa.select(model_versions).where(model_versions.c.model_uid == parent.uid)
            rows = s.execute(query.order_by(model_versions.c.version.desc())).mappings().all()
            return [_version(s, row) for row in rows]

    def version(self, teamspace: str, model: str, version: str) -> ModelVersion:
        """Return one version by number, or the newest complete one as `latest`."""
        with self._db.read() as s:
            return _version(s, self._row(s, self._model(s, teamspace, model), version))

    def file(self, teamspace: str, model: str, version: str, path: str) -> tuple[ModelFile, Path]:
        """Return a version's file and where its bytes are.

        Raises:
            NotFound: When the version has no such file.
        """
        found = self.version(teamspace, model, version)
        for file in found.files:
            if file.path == path:
                return file, self.content.path(file.sha256)
        raise NotFound(
            f"Version {found.version} of model {model!r} has no file {path[:200]!r}.",
            f"It has: {', '.join(file.path for file in found.files[:20]) or 'none yet'}.",
        )

    def delete(self, teamspace: str, model: str, *, actor: str) -> Object:
        """Delete a model with all versions, and the files nothing else refers to."""
        with self._db.write() as s:
            parent = self._model(s, teamspace, model)
            mine = model_files.c.model_uid == parent.uid
            hashes = set(s.scalars(sa.select(model_files.c.sha256).where(mine)))
            gone = self._store.delete(parent.uid, actor, session=s)
            # Versions and files of the model went with its row. Unlinking inside the transaction keeps an
            # upload of the same bytes, which also needs the write transaction, from being lost.
            for column in (model_files.c.sha256, blobs.c.sha256):
                hashes -= {sha for sha in hashes if s.execute(sa.select(column).where(column == sha)).first()}
            self.content.remove(hashes)
        return gone

    def _model(self, s: Session, teamspace: str, model: str) -> Object:
        return self._store.get("model", teamspace, model, session=s)

    def _row(self, s: Session, model: Object, version: str) -> Mapping[Any, Any]:
        query = sa.select(model_versions).where(model_versions.c.model_uid == model.uid)
        if version == "latest":
            latest = query.where(model_versions.c.state == "ready").order_by(model_versions.c.version.desc())
            found = s.execute(latest.limit(1)).mappings().first()
        else:
            number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
            found = s.execute(query.where(model_versions.c.version == number)).mappings().first()
        if found is None:
            raise NotFound(
                f"Model {model.name!r} has no version {version[:20]!r}.",
                "List its versions; 'latest' works too.",
            )
        return found


def check_path(path: str) -> None:
    """Refuse a path that could leave its folder or that some system cannot write.

    Raises:
        Invalid: Saying what a path must be.
    """
    segments = path.split("/")
    if len(path) > 512 or any(part in (".", "..") or not _SEGMENT.match(part) for part in segments):
        raise Invalid(
            f"{path[:200]!r} is not a path inside the model.",
            "Use a relative path with / between names, without '..', at most 512 characters.",
        )


def _check_uploading(row: Mapping[Any, Any], model: str) -> None:
    if row["state"] != "uploading":
        raise Conflict(
            f"Version {row['version']} of model {model!r} is complete and never changes.",
            "Begin a new version.",
        )


def _key(row: Mapping[Any, Any]) -> sa.ColumnElement[bool]:
    return (model_versions.c.model_uid == row["model_uid"]) & (model_versions.c.version == row["version"])


def _files_of(row: Mapping[Any, Any]) -> sa.ColumnElement[bool]:
    return (model_files.c.model_uid == row["model_uid"]) & (model_files.c.version == row["version"])


def _version(s: Session, row: Mapping[Any, Any]) -> ModelVersion:
    query = sa.select(model_files.c.path, model_files.c.size_bytes, model_files.c.sha256).where(
        _files_of(row)
    )
    files = [ModelFile(*found) for found in s.execute(query.order_by(model_files.c.path))]
    names = ("version", "state", "metrics", "metadata", "job", "created_by", "created_at", "committed_at")
    return ModelVersion(files=files, **{name: row[name] for name in names})
