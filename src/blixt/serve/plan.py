"""The hook plan: everything about an API that can be decided before its first request.

This and `plan_*` are the only places that inspect signatures. Workers run the closures made here.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blixt.serve.api import API
from blixt.serve.batching import Policy
from blixt.serve.callbacks import Events, events_of
from blixt.serve.codec import to_json
from blixt.serve.codecs import Reader
from blixt.serve.codecs.answers import Answer, write
from blixt.serve.errors import ConfigError, Failure, HTTPError
from blixt.serve.handoff import pack
from blixt.serve.pipeline import Pipeline
from blixt.serve.plan_hooks import Hook, apiecewise, hook_of, is_overridden, piecewise, resolve
from blixt.serve.plan_mode import HOOKS, Mode, mode_of, streams
from blixt.serve.plan_reader import reader_of
from blixt.serve.plan_schema import input_media, input_schema, output_schema
from blixt.serve.wire import Kind

__all__ = ["Answer", "Plan", "apiecewise", "hook_of", "make_plan", "piecewise"]

_VALUE = int(Kind.VALUE)
_PACKING = ("first", "middle")
logger = logging.getLogger("blixt.serve")


@dataclass(frozen=True, slots=True)
class Plan:
    """An API's hooks, resolved. Identity hooks are None, so that nobody calls them.

    Attributes:
        read: `(body, meta) -> value`, the typed decoder of a body.
        encode_stream: `((request, pieces), context) -> encoded pieces`, sync or async as the API is.
        wants_context: Some hook takes the request's context.
        wants_headers: ... and the API asks for headers in it.
        stage: "first", "middle" or "last" of a pipeline, else empty: whether answers go to the next stage.
        folder: Where large values lie on their way to the next stage.
        shown: The API that writes the answer: a pipeline's last stage, else `api`.
    """

    api: API
    name: str
    mode: Mode
    policy: Policy
    events: Events
    read: Reader
    decode: Hook | None
    batch: Hook | None
    predict: Hook
    unbatch: Hook | None
    encode: Hook | None
    encode_stream: Callable[[Any, Any], Any]
    wants_context: bool
    wants_headers: bool
    stage: str
    folder: str | None
    shown: API

    def answer(self, kind: int, output: Any) -> Answer:
        """An encoded output on the wire, for the kind of request it answers."""
        if kind == _VALUE or self.stage in _PACKING:
            return Kind.PACKED, pack(output, self.folder)
        return write(output)

    def failure(self, error: BaseException) -> Answer:
        """An exception as an answer: an `HTTPError` as it says, anything else logged and told as 500."""
        if isinstance(error, HTTPError):
            return Kind.ERROR, to_json(Failure(error.status, error.detail, error.headers))
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and 400 <= status < 600:  # FastAPI's and Starlette's HTTPException
            headers = dict(getattr(error, "headers", None) or {})
            return Kind.ERROR, to_json(Failure(status, getattr(error, "detail", str(error)), headers))
        logger.error("%s failed on a request", self.name, exc_info=error)
        return Kind.ERROR, to_json(Failure(500, "Internal Server Error"))

    def input_schema(self) -> dict[str, Any] | None:
        """JSON schema of a request's body; None if the annotations do not say."""
        return input_schema(self.api.described)

    def output_schema(self) -> dict[str, Any] | None:
        """JSON schema of an answer (of a piece, when streaming); None if the annotations do not say."""
        return output_schema(self.shown.described)

    @property
    def input_media(self) -> str:
        """The content type a body should have."""
        return input_media(self.api.described)


def make_plan(api: API, callbacks: Sequence[Any] = (), *, stage: str = "", folder: str | None = None) -> Plan:
    """Check an API's hooks and resolve them.

    Args:
        api: What is served.
        callbacks: The server's; the API's own come after them.
        stage: See `Plan`.
        folder: See `Plan`.

    Raises:
        ConfigError: `predict` is missing, hooks do not go together, or an annotation cannot be decoded.
    """
    if isinstance(api, Pipeline):
        return _pipeline_plan(api, callbacks)
    policy, mode = api.policy(), mode_of(api)
    events = events_of(api, callbacks)
    name = type(api).__name__
    _check(api, name, mode)
    hooks = {hook: resolve(api, hook, events) for hook in HOOKS}
    own = {hook: hooks[hook] if _is_needed(api, hook, events) else None for hook in HOOKS}
    spec = api.spec
    if spec is not None and not spec.streams:
        encoder = spec.encoder(api)
        own["encode_response"] = own["encode_response"] if encoder is None else Hook(encoder)
    wants = bool(api.context_fields) or any(hook.wants_context for hook in hooks.values())
    return Plan(
        api=api,
        name=name,
        mode=mode,
        policy=policy,
        events=events,
        read=(lambda body, meta: spec.read(bytes(body))) if spec is not None else reader_of(api),
        decode=own["decode_request"],
        batch=own["batch"],
        predict=hooks["predict"],
        unbatch=own["unbatch"],
        encode=own["encode_response"],
        encode_stream=_encode_stream(api, mode, events),
        wants_context=wants,
        wants_headers=wants and "headers" in api.context_fields,
        stage=stage,
        folder=folder,
        shown=api,
    )


def _pipeline_plan(api: Pipeline, callbacks: Sequence[Any]) -> Plan:
    """What the front knows of a pipeline: its first stage reads, its last one answers."""
    plans = [make_plan(stage, callbacks) for stage in api.stages]
    first, last = plans[0], plans[-1]
    policy = replace(first.policy, stream=last.policy.stream)
    headers = any(plan.wants_headers for plan in plans)
    return replace(first, name=type(api).__name__, policy=policy, wants_headers=headers, shown=last.api)


def _is_needed(api: API, hook: str, events: Events) -> bool:
    return hook in ("batch", "unbatch") or is_overridden(api, hook) or any(events.around(hook))


def _check(api: API, name: str, mode: Mode) -> None:
    optional = api.has_session or mode is Mode.CUSTOM or callable(getattr(api, "step", None))
    if not is_overridden(api, "predict") and not optional:
        raise ConfigError(f"{name} has no predict method; write one.")
    if mode is Mode.CONTINUOUS:
        if not streams(api):
            raise ConfigError(f"{name}: continuous batching answers piece by piece; set stream=True.")
        missing = [hook for hook in ("add_request", "step") if not callable(getattr(api, hook, None))]
        if missing and not callable(getattr(api, "has_finished", None)):
            raise ConfigError(
                f"{name}: loop='continuous' needs add_request(uid, request) and step(previous), or "
                "predict(inputs, generated) and has_finished(uid, token, max_sequence_length)."
            )
    if streams(api) and mode is Mode.BATCHED_STREAMS and api.spec is not None:
        raise ConfigError(f"{name}: a streaming spec serves its streams side by side; set max_batch_size=1.")


def _encode_stream(api: API, mode: Mode, events: Events) -> Callable[[Any, Any], Any]:
    if not streams(api):
        return _no_pieces
    if api.spec is not None:
        return api.spec.apieces(api) if mode is Mode.ASYNC else api.spec.pieces(api)
    if mode is Mode.ASYNC:
        aencode = apiecewise(api, events)
        return (
            (lambda pair, context: pair[1])
            if aencode is None
            else lambda pair, context: aencode(pair[1], context)
        )
    encode = piecewise(api, events)
    return (
        (lambda pair, context: iter(pair[1]))
        if encode is None
        else lambda pair, context: encode(pair[1], context)
    )


def _no_pieces(pair: Any, context: Any) -> Iterator[Any]:
    return iter(())
