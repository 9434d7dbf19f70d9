"""The same routes for every kind: list, create, read, replace, change, delete."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from blixt.cloud.api.access import allow
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.fields import Body
from blixt.cloud.db import Session
from blixt.cloud.errors import Invalid
from blixt.cloud.identity import Principal
from blixt.cloud.kinds import KINDS, Kind
from blixt.cloud.objects import Object

Revision = Field(ge=1, le=2**62)


class CreateBody(Body):
    """A new object."""

    name: str
    spec: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)


class ReplaceBody(Body):
    """A whole new spec for the object as it was at `revision`."""

    revision: int = Revision
    spec: dict[str, Any]
    labels: dict[str, str] | None = None


class PatchBody(Body):
    """Some fields of the spec; with `revision` only when nobody was faster."""

    spec: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, str] | None = None
    revision: int | None = Field(default=None, ge=1, le=2**62)


def object_routers() -> list[APIRouter]:
    """Return the routers of all kinds."""
    return [_router(kind) for kind in KINDS.values()]


def _router(kind: Kind) -> APIRouter:
    router = APIRouter(prefix=f"/teamspaces/{{ts}}/{kind.plural}", tags=[kind.plural])
    _add_reading(router, kind)
    # A secret is put with its value, by a route of its own.
    if kind.name != "secret":
        _add_writing(router, kind)
    return router


def _add_reading(router: APIRouter, kind: Kind) -> None:
    @router.get("", name=f"list_{kind.plural}")
    def list_objects(
        ts: str,
        label: list[str] = Query(default_factory=list),
        caller: Principal = allow("read", kind.name),
        cloud: Cloud = Depends(cloud_of),
    ) -> dict[str, Any]:
        """List objects, and the sequence number to watch from."""
        wanted = dict(_label(text) for text in label)
        with cloud.db.read() as s:
            items = cloud.store.list(kind.name, ts, wanted, session=s)
            seq = cloud.store.last_seq(session=s)
        return {"items": [item.to_json() for item in _with_budget_use(cloud, ts, items)], "seq": seq}

    @router.get("/{name}", name=f"get_{kind.name}")
    def get_object(
        ts: str,
        name: str,
        caller: Principal = allow("read", kind.name),
        cloud: Cloud = Depends(cloud_of),
    ) -> dict[str, Any]:
        """Return one object."""
        return _with_budget_use(cloud, ts, [cloud.store.get(kind.name, ts, name)])[0].to_json()

    if kind.name == "model":
        # A model's files go with it, so its own router deletes it.
        return

    @router.delete("/{name}", name=f"delete_{kind.name}")
    def delete_object(
        ts: str,
        name: str,
        caller: Principal = allow("delete", kind.name),
        cloud: Cloud = Depends(cloud_of),
    ) -> dict[str, Any]:
        """Ask for an object's deletion; it is gone when nothing of it runs any more."""
        with cloud.db.write() as s:
            item = cloud.store.get(kind.name, ts, name, session=s)
            return cloud.store.delete(item.uid, caller.actor, session=s).to_json()


def _add_writing(router: APIRouter, kind: Kind) -> None:
    @router.post("", status_code=201, name=f"create_{kind.name}")
    def create_object(
        ts: str,
        body: CreateBody,
        caller: Principal = allow("create", kind.name),
        cloud: Cloud = Depends(cloud_of),
    ) -> dict[str, Any]:
        """Create an object; 402 when a budget does not cover what it asks to run."""
        with cloud.db.write() as s:
            made = cloud.store.create(
                kind.name,
                ts,
                body.name,
                body.spec,
                owner=caller.user,
                actor=caller.actor,
                labels=body.labels,
                session=s,
            )
            cloud.money.check_start(made, session=s)
        return made.to_json()

    @router.put("/{name}", name=f"replace_{kind.name}")
    def replace_object(
        ts: str,
        name: str,
        body: ReplaceBody,
        caller: Principal = allow("update", kind.name),
        cloud: Cloud = Depends(cloud_of),
    ) -> dict[str, Any]:
        """Replace the spec; 409 when somebody else changed the object since `revision`."""
        with cloud.db.write() as s:
            item = cloud.store.get(kind.name, ts, name, session=s)
            changed = cloud.store.update_spec(
                item.uid,
                body.spec,
                revision=body.revision,
                actor=caller.actor,
                labels=body.labels,
                session=s,
            )
            _check_start(cloud, item, changed, s)
        return changed.to_json()

    @router.patch("/{name}", name=f"change_{kind.name}")
    def patch_object(
        ts: str,
        name: str,
        body: PatchBody,
        caller: Principal = allow("update", kind.name),
        cloud: Cloud = Depends(cloud_of),
    ) -> dict[str, Any]:
        """Replace some top-level fields of the spec."""
        with cloud.db.write() as s:
            item = cloud.store.get(kind.name, ts, name, session=s)
            changed = cloud.store.patch_spec(
                item.uid,
                body.spec,
                actor=caller.actor,
                revision=body.revision,
                labels=body.labels,
                session=s,
            )
            _check_start(cloud, item, changed, s)
        return changed.to_json()


def _check_start(cloud: Cloud, before: Object, after: Object, s: Session) -> None:
    if before.spec.get("desired") != "running":
        cloud.money.check_start(after, session=s)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Invalid(f"query: label: {text[:80]!r} is not key=value.", "Write ?label=key=value.")
    return key, value


def _with_budget_use(cloud: Cloud, teamspace: str, items: list[Object]) -> list[Object]:
    """Fill in what is spent and left of budgets, computed now."""
    if not any(item.kind == "budget" for item in items):
        return items
    used = {use.name: use.status() for use in cloud.money.budget_uses(teamspace)}
    return [replace(item, status={**item.status, **used.get(item.name, {})}) for item in items]
