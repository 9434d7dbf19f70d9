"""Blobs: raw bytes by their hash."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from blixt.cloud.api.access import allow
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.uploads import receive_upload
from blixt.cloud.identity import Principal

router = APIRouter(prefix="/teamspaces/{ts}/blobs", tags=["blobs"])


@router.post("", status_code=201)
async def put_blob(
    ts: str,
    request: Request,
    caller: Principal = allow("create", "blob"),
    cloud: Cloud = Depends(cloud_of),
) -> dict[str, Any]:
    """Keep the raw body; its id is the sha256 of its bytes."""
    blobs = cloud.registry.blobs
    upload = await receive_upload(request, blobs.content)
    try:
        blob_id, size_bytes = await run_in_threadpool(blobs.put, ts, upload, actor=caller.actor)
    except BaseException:
        upload.abort()
        raise
    return {"id": blob_id, "size_bytes": size_bytes}


@router.get("/{blob_id}")
def get_blob(
    ts: str, blob_id: str, caller: Principal = allow("read", "blob"), cloud: Cloud = Depends(cloud_of)
) -> FileResponse:
    """Download a blob."""
    place = cloud.registry.blobs.path(ts, blob_id)
    return FileResponse(place, media_type="application/octet-stream", filename=blob_id[:16])
