"""Versions of models and their files."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from blixt.cloud.api.access import allow
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.fields import Body, JsonObject, RunId
from blixt.cloud.api.uploads import receive_upload
from blixt.cloud.errors import NotFound
from blixt.cloud.identity import Principal

router = APIRouter(prefix="/teamspaces/{ts}/models/{name}", tags=["models"])


class VersionBody(Body):
    """A new version, or the one there is with this id."""

    id: RunId | None = None
    metadata: JsonObject = Field(default_factory=dict)
    job: str | None = Field(default=None, max_length=128)


class CommitBody(Body):
    """What the finished version measures."""

    metrics: JsonObject = Field(default_factory=dict)


@router.delete("")
def delete_model(
    ts: str, name: str, caller: Principal = allow("delete", "model"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """Delete a model with all its versions and files."""
    return cloud.registry.models.delete(ts, name, actor=caller.actor).to_json()


@router.post("/versions", status_code=201)
def create_version(
    ts: str,
    name: str,
    body: VersionBody,
    caller: Principal = allow("create", "model"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Begin a version (and the model when there is none); the same id again gives the same version."""
    return cloud.registry.models.create_version(
        ts,
        name,
        owner=caller.user,
        actor=caller.actor,
        client_id=body.id,
        metadata=body.metadata,
        job=body.job,
    ).to_json()


@router.get("/versions")
def list_versions(
    ts: str, name: str, caller: Principal = allow("read", "model"), cloud: Cloud = Depends(cloud_of)
) -> dict[str, Any]:
    """List a model's versions, newest first."""
    return {"items": [version.to_json() for version in cloud.registry.models.versions(ts, name)]}


@router.get("/versions/{version}")
def get_version(
    ts: str,
    name: str,
    version: str,
    caller: Principal = allow("read", "model"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Return one version by number, or the newest complete one as `latest`."""
    return cloud.registry.models.version(ts, name, version).to_json()


@router.post("/versions/{version}/commit")
def commit_version(
    ts: str,
    name: str,
    version: str,
    body: CommitBody | None = None,
    caller: Principal = allow("update", "model"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Make a version complete; from then on it never changes."""
    metrics = {} if body is None else body.metrics
    return cloud.registry.models.commit(
        ts, name, _number(version, name), actor=caller.actor, metrics=metrics
    ).to_json()


@router.put("/versions/{version}/files/{path:path}")
async def put_file(
    ts: str,
    name: str,
    version: str,
    path: str,
    request: Request,
    caller: Principal = allow("update", "model"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Upload one file of a version, as the raw body."""
    models, number = cloud.registry.models, _number(version, name)
    await run_in_threadpool(models.check_upload, ts, name, number, path)
    upload = await receive_upload(request, models.content)
    try:
        file = await run_in_threadpool(models.put_file, ts, name, number, path, upload)
    except BaseException:
        upload.abort()
        raise
    return {"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256}


@router.get("/versions/{version}/files/{path:path}")
def get_file(
    ts: str,
    name: str,
    version: str,
    path: str,
    caller: Principal = allow("read", "model"),
    cloud: Cloud = Depends(cloud_of),
) -> FileResponse:
    """Download one file; ranges are supported."""
    file, place = cloud.registry.models.file(ts, name, version, path)
    return FileResponse(
        place,
        media_type="application/octet-stream",
        filename=path.rsplit("/", 1)[-1],
        headers={"X-Content-Sha256": file.sha256},
    )


def _number(version: str, model: str) -> int:
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise NotFound(f"Model {model!r} has no version {version[:20]!r}.", "Use the version's number.")
    return int(version)
