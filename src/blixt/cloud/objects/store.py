"""The store of objects: each mutation is one transaction, with its change-log and audit entries."""

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import objects, teamspaces
from blixt.cloud.errors import Conflict, NotFound
from blixt.cloud.identity.audit import append as audit_append
from blixt.cloud.kinds import kind_of, validate_labels, validate_name, validate_spec, validate_status
from blixt.cloud.objects.log import ChangeLog
from blixt.cloud.objects.object import Object, from_row, to_row

Objects = list[Object]  # `Store.list` hides the builtin inside the class


class Store(ChangeLog):
    """Objects of every kind.

    Every method takes `session=` to join a transaction; `actor` is who did it, for the audit log.

    Args:
        db: The database.
        machines: Returns the machine types there are; None leaves machine names unchecked.
        clock: Returns unix seconds.
    """

    def __init__(
        self,
        db: Database,
        *,
        machines: Callable[[], Collection[str]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(db)
        self._machines = machines
        self._clock = clock

    # -- reading -------------------------------------------------------------------------------------------

    def get(self, kind: str, teamspace: str, name: str, *, session: Session | None = None) -> Object:
        """Return the object with this name.

        Raises:
            NotFound: When there is none.
        """
        found = self.find(kind, teamspace, name, session=session)
        if found is None:
            raise NotFound(
                f"There is no {kind} {name[:80]!r} in teamspace {teamspace!r}.",
                "List them to see the names there are.",
            )
        return found

    def find(self, kind: str, teamspace: str, name: str, *, session: Session | None = None) -> Object | None:
        """Return the object with this name, or None."""
        where = (objects.c.kind == kind) & (objects.c.teamspace == teamspace) & (objects.c.name == name)
        with self.db.viewed(session) as s:
            row = s.execute(sa.select(objects).where(where)).mappings().one_or_none()
        return None if row is None else from_row(row)

    def get_uid(self, uid: str, *, session: Session | None = None) -> Object:
        """Return the object with this uid.

        Raises:
            NotFound: When there is none.
        """
        with self.db.viewed(session) as s:
            row = s.execute(sa.select(objects).where(objects.c.uid == uid)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no object {uid[:80]!r}.", "It was deleted.")
        return from_row(row)

    def list(
        self,
        kind: str | None = None,
        teamspace: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        session: Session | None = None,
    ) -> Objects:
        """Return objects in order of creation, filtered by kind, teamspace and labels."""
        query = sa.select(objects).order_by(objects.c.created_at, objects.c.uid)
        if kind is not None:
            query = query.where(objects.c.kind == kind)
        if teamspace is not None:
            query = query.where(objects.c.teamspace == teamspace)
        with self.db.viewed(session) as s:
            found = [from_row(row) for row in s.execute(query).mappings()]
        wanted = (labels or {}).items()
        return [item for item in found if wanted <= item.labels.items()]

    # -- writing -------------------------------------------------------------------------------------------

    def create(
        self,
        kind: str,
        teamspace: str,
        name: str,
        spec: Mapping[str, Any],
        *,
        owner: str,
        actor: str,
        labels: Mapping[str, str] | None = None,
        session: Session | None = None,
    ) -> Object:
        """Create an object with the kind's first status.

        Raises:
            Invalid: When name, spec or labels are wrong; the message names the field.
            NotFound: When the teamspace does not exist.
            Conflict: When the name is taken.
        """
        now = self._clock()
        created = Object(
            uid=uuid.uuid4().hex,
            kind=kind_of(kind).name,
            teamspace=teamspace,
            name=validate_name(name),
            revision=1,
            owner=owner,
            created_at=now,
            updated_at=now,
            labels=validate_labels(labels or {}),
            spec=validate_spec(kind, spec, self._known_machines()),
            status=validate_status(kind, {}),
        )
        with self.db.joined(session) as s:
            if s.execute(sa.select(teamspaces.c.name).where(teamspaces.c.name == teamspace)).first() is None:
                raise NotFound(f"There is no teamspace {teamspace[:80]!r}.", "Create it first.")
            if self.find(kind, teamspace, name, session=s) is not None:
                raise Conflict(
                    f"A {kind} named {name!r} already exists in teamspace {teamspace!r}.",
                    "Choose another name, or change or delete the one there is.",
                )
            s.execute(objects.insert().values(**to_row(created)))
            self._append(s, "created", created)
            self._audit(s, actor, "create", created, {})
        return created

    def update_spec(
        self,
        uid: str,
        spec: Mapping[str, Any],
        *,
        revision: int,
        actor: str,
        labels: Mapping[str, str] | None = None,
        session: Session | None = None,
    ) -> Object:
        """Replace the spec (and labels, when given) of the object as it was at `revision`.

        Raises:
            Conflict: When the object has changed since, or is being deleted.
            Invalid: When the spec is wrong; the message names the field.
        """
        with self.db.joined(session) as s:
            current = self.get_uid(uid, session=s)
            _check_revision(current, revision)
            return self._change_spec(s, current, spec, labels, actor)

    def patch_spec(
        self,
        uid: str,
        partial: Mapping[str, Any],
        *,
        actor: str,
        revision: int | None = None,
        labels: Mapping[str, str] | None = None,
        session: Session | None = None,
    ) -> Object:
        """Replace some top-level fields of the spec; checked against `revision` only when it is given.

        Raises:
            Conflict: When the object has changed since `revision`, or is being deleted.
            Invalid: When the resulting spec is wrong; the message names the field.
        """
        with self.db.joined(session) as s:
            current = self.get_uid(uid, session=s)
            if revision is not None:
                _check_revision(current, revision)
            return self._change_spec(s, current, {**current.spec, **partial}, labels, actor)

    def update_status(
        self, uid: str, changes: Mapping[str, Any], *, session: Session | None = None
    ) -> Object:
        """Merge top-level fields into the status; nothing is written when nothing changes.

        Raises:
            NotFound: When the object is gone.
            Invalid: When a field has the wrong type.
        """
        with self.db.joined(session) as s:
            current = self.get_uid(uid, session=s)
            status = validate_status(current.kind, {**current.status, **changes})
            if status == current.status:
                return current
            return self._save(s, replace(current, status=status))

    def delete(self, uid: str, actor: str, *, session: Session | None = None) -> Object:
        """Ask for an object's deletion: it vanishes now, or when its last finalizer is removed."""
        with self.db.joined(session) as s:
            current = self.get_uid(uid, session=s)
            if current.deleting:
                return current
            self._audit(s, actor, "delete", current, {})
            marked = replace(current, deleting=True)
            return self._save(s, marked) if current.finalizers else self._vanish(s, marked)

    def add_finalizer(self, uid: str, finalizer: str, *, session: Session | None = None) -> Object:
        """Keep the object, once deleted, until `finalizer` is removed.

        Raises:
            Conflict: When the object is already being deleted.
        """
        with self.db.joined(session) as s:
            current = self.get_uid(uid, session=s)
            if finalizer in current.finalizers:
                return current
            if current.deleting:
                raise Conflict(f"{current.path} is being deleted.", "Wait until it is gone.")
            return self._save(s, replace(current, finalizers=(*current.finalizers, finalizer)))

    def remove_finalizer(self, uid: str, finalizer: str, *, session: Session | None = None) -> Object:
        """Let go of the object; when it is being deleted and nobody else holds it, it vanishes."""
        with self.db.joined(session) as s:
            current = self.get_uid(uid, session=s)
            if finalizer not in current.finalizers:
                return current
            left = replace(current, finalizers=tuple(f for f in current.finalizers if f != finalizer))
            return self._vanish(s, left) if left.deleting and not left.finalizers else self._save(s, left)

    # -- inside --------------------------------------------------------------------------------------------

    def _known_machines(self) -> Collection[str] | None:
        return None if self._machines is None else self._machines()

    def _change_spec(
        self,
        s: Session,
        current: Object,
        spec: Mapping[str, Any],
        labels: Mapping[str, str] | None,
        actor: str,
    ) -> Object:
        if current.deleting:
            raise Conflict(f"{current.path} is being deleted.", "Wait until it is gone, then create it anew.")
        checked = validate_spec(current.kind, spec, self._known_machines())
        marks = current.labels if labels is None else validate_labels(labels)
        if checked == current.spec and marks == current.labels:
            return current
        fields = sorted(key for key in checked if checked[key] != current.spec.get(key))
        self._audit(s, actor, "update", current, {"fields": fields})
        return self._save(s, replace(current, spec=checked, labels=marks, revision=current.revision + 1))

    def _audit(self, s: Session, actor: str, action: str, item: Object, detail: Mapping[str, Any]) -> None:
        detail = {"uid": item.uid, **detail}
        audit_append(s, actor, action, item.kind, item.teamspace, item.name, detail=detail, at=self._clock())

    def _save(self, s: Session, changed: Object) -> Object:
        saved = replace(changed, updated_at=self._clock())
        s.execute(objects.update().where(objects.c.uid == saved.uid).values(**to_row(saved)))
        self._append(s, "updated", saved)
        return saved

    def _vanish(self, s: Session, last: Object) -> Object:
        gone = replace(last, deleting=True, updated_at=self._clock())
        s.execute(objects.delete().where(objects.c.uid == last.uid))
        self._append(s, "deleted", gone)
        return gone


def _check_revision(current: Object, revision: int) -> None:
    if current.revision != revision:
        raise Conflict(
            f"{current.path} has been changed since: it is at revision {current.revision}, not {revision}.",
            "Read it again, apply your change to what is there now, and send that revision.",
        )
