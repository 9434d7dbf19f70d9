"""What the OpenAPI page says about OpenAI's routes."""

from typing import Any

import msgspec

from blixt.serve.specs.openai_responses import ResponseRequest
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest, EmbeddingRequest

Json = dict[str, Any]


OURS = ("blixt_request", "choice")


def _public(kind: Any) -> Json:
    """The schema of a request, without the fields that are ours alone."""
    schema = msgspec.json.schema(kind)
    for definition in schema["$defs"].values():
        for name in OURS:
            definition["properties"].pop(name, None)
            definition["required"] = [field for field in definition.get("required", ()) if field != name]
    return schema


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required}


TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer"}
ANY_OBJECT: Json = {"type": "object"}
MODEL = _object(["id", "object"], id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT)
MODELS = _object(["object", "data"], object={"const": "list"}, data={"type": "array", "items": MODEL})


def _completion(kind: str, **choice: Json) -> Json:
    choices = _object(["index", "finish_reason", *choice], index=COUNT, finish_reason=TEXT, **choice)
    return _object(
        ["id", "object", "created", "model", "choices", "usage"],
        id=TEXT,
        object={"const": kind},
        created=COUNT,
        model=TEXT,
        choices={"type": "array", "items": choices},
        usage=ANY_OBJECT,
    )


MESSAGE = _object(["role", "content"], role={"const": "assistant"}, content={"type": ["string", "null"]})
RESPONSE = _object(
    ["id", "object", "status", "output"],
    id=TEXT,
    object={"const": "response"},
    status={"enum": ["completed", "incomplete"]},
    output={"type": "array", "items": ANY_OBJECT},
)
VECTOR: Json = {"anyOf": [{"type": "array", "items": {"type": "number"}}, TEXT]}
EMBEDDING = _object(["object", "index", "embedding"], object=TEXT, index=COUNT, embedding=VECTOR)

COMPLETION_DOCS: dict[str, tuple[str, Any, Json]] = {
    "/v1/chat/completions": ("Chat", _public(ChatRequest), _completion("chat.completion", message=MESSAGE)),
    "/v1/completions": ("Completion", _public(CompletionRequest), _completion("text_completion", text=TEXT)),
    "/v1/responses": ("Response", _public(ResponseRequest), RESPONSE),
}
"""Summary, request and response of each route."""

EMBEDDING_DOCS: tuple[str, Any, Json] = (
    "Embeddings",
    _public(EmbeddingRequest),
    _object(
        ["object", "data", "model", "usage"],
        object={"const": "list"},
        data={"type": "array", "items": EMBEDDING},
        model=TEXT,
        usage=ANY_OBJECT,
    ),
)
