"""Raw bodies streamed to the disk, never held in memory."""

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from blixt.cloud.errors import BadRequest
from blixt.cloud.registry import ContentStore, Upload

_BUFFER_BYTES = 1024 * 1024


async def receive_upload(request: Request, content: ContentStore) -> Upload:
    """Stream a request's body into an upload.

    Raises:
        StorageFull: When the disk is full; nothing is left behind.
        BadRequest: When the client goes away halfway; nothing is left behind.
    """
    upload = await run_in_threadpool(content.begin)
    buffer = bytearray()
    try:
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= _BUFFER_BYTES:
                await run_in_threadpool(upload.write, bytes(buffer))
                buffer.clear()
        await run_in_threadpool(upload.write, bytes(buffer))
    except ClientDisconnect as error:
        await run_in_threadpool(upload.abort)
        raise BadRequest("The upload was cut off.", "Send it again.") from error
    except BaseException:
        # Cancellation included; a thread hop could be cancelled again.
        upload.abort()
        raise
    return upload
