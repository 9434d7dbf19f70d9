"""OpenAPI for every route, and the page that shows it."""

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from blixt.serve.api import API
from blixt.serve.http.lane import ChoiceLane, Lane, StreamLane
from blixt.serve.http.openai import ModelsLane, SpecLane
from blixt.serve.http.schemas import Components

if TYPE_CHECKING:
    from blixt.serve.http.app import ServeApp

Json = dict[str, Any]
ERRORS = {
    400: "The body cannot be read.",
    401: "The API key is missing or wrong.",
    403: "The API's own authorisation refuses.",
    404: "There is no such model.",
    405: "Wrong method.",
    413: "The body is too large.",
    415: "The content type is not one this route reads.",
    422: "The body does not fit.",
    429: "Too many requests are waiting; Retry-After says when to come back.",
    500: "The model failed.",
    503: "No worker could answer; Retry-After says when to come back.",
    504: "No answer in time.",
}
HEADERS: list[Json] = [
    {
        "name": "x-priority",
        "in": "header",
        "description": "Higher goes first, -10 to 10.",
        "schema": {"type": "integer", "minimum": -10, "maximum": 10},
    },
    {
        "name": "x-timeout-s",
        "in": "header",
        "description": "How long the client will wait, if shorter than the server's limit.",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
    },
    {
        "name": "x-request-id",
        "in": "header",
        "description": "Sent back with the answer.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
]
DETAIL: Json = {
    "type": "object",
    "title": "Error",
    "properties": {"detail": {"description": "What was wrong; a list of fields for 422."}},
    "required": ["detail"],
}
OPENAI_ERROR: Json = {
    "type": "object",
    "title": "OpenAIError",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type"],
        }
    },
    "required": ["error"],
}
TEXT: Json = {"type": "string"}
EVENT: Json = {"type": "object", "properties": {"event": TEXT, "data": TEXT, "id": TEXT}}
EVENTS: Json = {"text/event-stream": {"schema": EVENT}}
SCHEMES: Json = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}


def add_docs(app: FastAPI) -> None:
    """Add `/docs`: one page without anything from another host."""
    page = files("blixt.serve.http").joinpath("docs.html").read_text()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)


def with_lanes(schema: Json, app: "ServeApp") -> Json:
    """FastAPI's schema, with the lanes' routes, their schemas and the keys they ask for."""
    components = Components()
    keyed = not app.keys.is_open or app.web.authenticate is not None
    paths: Json = schema.setdefault("paths", {})
    for path, lane in app.lanes.items():
        method = lane.method.lower()
        known: Json = paths.get(path, {}).get(method, {})
        operation = _operation(path, lane, components, keyed)
        if known:  # it has an `authorize`, which FastAPI has read
            operation["security"] = known.get("security", [])
            refused = operation["responses"]["400"]["content"]
            for status in ("401", "403"):
                operation["responses"][status] = {"description": ERRORS[int(status)], "content": refused}
        elif keyed:
            operation["security"] = [{name: []} for name in SCHEMES]
        paths[path.replace(":path}", "}")] = {method: operation}
    if keyed:
        _secure_pages(paths, app)
    held: Json = schema.setdefault("components", {})
    held.setdefault("schemas", {}).update(components.schemas)
    if keyed:
        held.setdefault("securitySchemes", {}).update(SCHEMES)
    if app.web.root_path:
        schema["servers"] = [{"url": app.web.root_path}]
    return schema


def _secure_pages(paths: Json, app: "ServeApp") -> None:
    """The server's own pages that need the key."""
    for path, operations in paths.items():
        if path not in app.lanes and path not in app.web.open_paths and path != app.web.shutdown_path:
            for operation in operations.values():
                operation["security"] = [{name: []} for name in SCHEMES]
                operation["responses"].setdefault("401", {"description": ERRORS[401]})


def _operation(path: str, lane: Lane, components: Components, keyed: bool) -> Json:
    if isinstance(lane, ModelsLane):
        return _models_operation(path, components, keyed)
    if isinstance(lane, SpecLane):
        return _spec_operation(path, lane, components, keyed)
    assert lane.gate.api is not None
    return _api_operation(path, lane, lane.gate.api, components, keyed)


def _api_operation(path: str, lane: Lane, api: API, components: Components, keyed: bool) -> Json:
    from blixt.serve.plan import make_plan

    plan = make_plan(api)
    name = type(api).__name__
    about = (type(api).__doc__ or name).strip().partition("\n")
    answer = components.add(plan.output_schema(), name)
    content: Json = {}
    if not isinstance(lane, StreamLane):
        content = {"application/json": {"schema": answer}}
    elif isinstance(lane, ChoiceLane):
        content = {"application/json": {"schema": {}}}
    if isinstance(lane, StreamLane):
        content = {**content, **EVENTS}
    elif not plan.output_schema():
        content["*/*"] = {"schema": {}}
    body = {plan.input_media: {"schema": components.add(plan.input_schema(), name)}}
    return {
        "summary": about[0].strip(),
        "description": about[2].strip(),
        "operationId": f"{name}-{path.strip('/').replace('/', '-')}",
        "parameters": HEADERS,
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **_errors(components, "Error", DETAIL, keyed, (400, 405, 413, 415, 422, 429, 500, 503, 504)),
        },
    }


def _spec_operation(path: str, lane: SpecLane, components: Components, keyed: bool) -> Json:
    target = lane.targets[0]
    endpoint = target.endpoint
    answer = {"schema": components.of(endpoint.response)}
    content: Json = {endpoint.answer_type: answer, **(EVENTS if target.spec.streams else {})}
    request = {endpoint.media_type: {"schema": components.of(endpoint.request)}}
    return {
        "summary": endpoint.summary,
        "operationId": path.strip("/").replace("/", "-"),
        "parameters": HEADERS,
        "requestBody": {"required": True, "content": request},
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **_errors(components, *_shape(path), keyed, (400, 404, 405, 413, 422, 429, 500, 503, 504)),
        },
    }


def _models_operation(path: str, components: Components, keyed: bool) -> Json:
    from blixt.serve.specs.openai_docs import MODEL, MODELS

    one = "{" in path
    operation: Json = {
        "summary": "One model" if one else "The models",
        "operationId": "model" if one else "models",
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {"application/json": {"schema": components.add(MODEL if one else MODELS, "")}},
            },
            **_errors(components, "OpenAIError", OPENAI_ERROR, keyed, (404, 405) if one else (405,)),
        },
    }
    if one:
        name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        operation["parameters"] = [name]
    return operation


def _shape(path: str) -> tuple[str, Json]:
    return ("OpenAIError", OPENAI_ERROR) if path.startswith("/v1/") else ("Error", DETAIL)


def _errors(
    components: Components, name: str, shape: Mapping[str, Any], keyed: bool, statuses: tuple[int, ...]
) -> Json:
    reference = components.add(shape, name)
    content = {"application/json": {"schema": reference}}
    told = sorted({*statuses, 401} if keyed else statuses)
    return {str(status): {"description": ERRORS[status], "content": content} for status in told}
