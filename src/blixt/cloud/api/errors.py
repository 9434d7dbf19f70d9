"""One shape for every error the API gives."""

import json
import logging
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from blixt.cloud.api.access import refuse_websocket
from blixt.cloud.api.console import console_response
from blixt.cloud.errors import BadRequest, CloudError, Invalid, NotFound
from blixt.cloud.kinds.base import explain_detail

_log = logging.getLogger(__name__)

_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    503: "unavailable",
}


class AsciiJSON(JSONResponse):
    """JSON in ASCII only, which cannot fail on half a surrogate pair that came with the request."""

    def render(self, content: Any) -> bytes:
        """Return the content as bytes."""
        return json.dumps(content, separators=(",", ":")).encode()


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the app come out as `{"error": {code, message, hint}}`."""
    app.add_exception_handler(CloudError, _cloud_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def error_response(error: CloudError, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the answer for an error."""
    return AsciiJSON(error.to_json(), status_code=error.status, headers=headers)


async def _cloud_error(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, CloudError)
    return await _answer(connection, error)


async def _validation_error(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = dict(error.errors()[0])
    location: tuple[int | str, ...] = tuple(first["loc"])
    if first["type"] == "json_invalid":
        problem = f"The body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}."
        return await _answer(connection, BadRequest(problem, "Send a JSON object."))
    where = {"body": "request body", "query": "query", "path": "path"}.get(str(location[0]), str(location[0]))
    message, hint = explain_detail(first["type"], location[1:], first["msg"], where)
    if location == ("body",) and first["type"] in ("missing", "model_attributes_type"):
        message, hint = "The request needs a JSON object as its body.", "Send Content-Type: application/json."
    return await _answer(connection, Invalid(message, hint))


async def _http_error(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = connection.url.path
    if error.status_code == 404 and isinstance(connection, Request):
        page = console_response(connection)
        if page is not None:
            return page
        return await _answer(
            connection, NotFound(f"There is nothing at {path[:200]!r}.", "Check the address.")
        )
    cloud_error = CloudError(f"{error.detail} ({getattr(connection, 'method', 'WS')} {path[:200]}).")
    # The class-level status and code stand for known classes; these come from the framework.
    code = _CODES.get(error.status_code, "error")
    body = {"error": {**cloud_error.to_json()["error"], "code": code}}
    headers = dict(error.headers) if error.headers else None
    if isinstance(connection, WebSocket):
        await connection.close(1008, str(error.detail)[:120])
        return Response()
    return JSONResponse(body, status_code=error.status_code, headers=headers)


async def _unexpected(connection: HTTPConnection, error: Exception) -> Response:
    _log.error("unexpected error at %s", connection.url.path, exc_info=error)
    hint = "This is a fault of the server; its log says more."
    return await _answer(connection, CloudError("The server failed to answer this request.", hint))


async def _answer(connection: HTTPConnection, error: CloudError) -> Response:
    if isinstance(connection, WebSocket):
        await refuse_websocket(connection, error)
        return Response()
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return error_response(error, headers)
