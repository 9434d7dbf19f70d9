"""The hook plan: everything about an API's hooks that can be decided before the first request.

This is the one place that inspects signatures. Workers run the closures it makes.
"""

import inspect
import logging
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from blixt.serve.api import API
from blixt.serve.batching import Policy
from blixt.serve.codec import Decoder, decoder_for, to_json
from blixt.serve.errors import ConfigError, Failure, HTTPError
from blixt.serve.wire import Kind

Context = dict[str, Any]
Hook = Callable[[Any, Any], Any]
Answer = tuple[Kind, bytes]

HOOKS = ("decode_request", "batch", "predict", "unbatch", "encode_response")
logger = logging.getLogger("blixt.serve")


@dataclass(frozen=True, slots=True)
class Plan:
    """Resolved hooks; each takes `(value, context)`."""

    name: str
    policy: Policy
    read: Decoder
    decode: Hook
    batch: Hook
    predict: Hook
    unbatch: Hook
    encode: Hook
    encode_stream: Callable[[Any, Any], Iterator[Any]]

    def start(self, body: bytes, context: Context) -> Any:
        """A body as `predict` wants it."""
        return self.decode(self.read(body), context)

    def finish(self, output: Any, context: Context) -> Answer:
        """An output as an answer on the wire."""
        value = self.encode(output, context)
        return (Kind.RAW, bytes(value)) if isinstance(value, bytes | bytearray) else (Kind.OK, to_json(value))

    def failure(self, error: BaseException) -> Answer:
        """An exception as an answer: an `HTTPError` as it says, anything else logged and told as 500."""
        if isinstance(error, HTTPError):
            return Kind.ERROR, to_json(Failure(error.status, error.detail, error.headers))
        logger.error("%s failed on a request", self.name, exc_info=error)
        return Kind.ERROR, to_json(Failure(500, "Internal Server Error"))


def make_plan(api: API) -> Plan:
    """Check an API's hooks and resolve them.

    Raises:
        ConfigError: `predict` is missing, a hook is `async`, or an annotation cannot be decoded.
    """
    policy = api.policy()
    name = type(api).__name__
    if type(api).predict is API.predict:
        raise ConfigError(f"{name} has no predict method; write one.")
    for hook in (*HOOKS, "setup"):
        function = getattr(api, hook)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"{name}.{hook} is async; hooks block a worker of their own, write `def`.")
    spec = api.spec
    return Plan(
        name=name,
        policy=policy,
        read=spec.read if spec is not None else _reader(api, name),
        decode=_hook(api.decode_request),
        batch=_hook(api.batch),
        predict=_hook(api.predict),
        unbatch=_hook(api.unbatch),
        encode=_hook(api.encode_response),
        encode_stream=spec.pieces(api) if spec is not None else _stream_encoder(api),
    )


def _hook(function: Callable[..., Any]) -> Hook:
    if "context" in inspect.signature(function).parameters:
        return lambda value, context: function(value, context=context)
    return lambda value, context: function(value)


def _reader(api: API, name: str) -> Decoder:
    decodes = type(api).decode_request is not API.decode_request
    hook = "decode_request" if decodes else "predict"
    annotation = _first_annotation(getattr(api, hook), f"{name}.{hook}")
    batched = api.max_batch_size > 1 and not decodes
    if batched and type(api).batch is not API.batch:
        annotation = Any  # predict takes whatever `batch` makes, which says nothing about one body
    elif batched and annotation is not Any:
        annotation = typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else Any
    return decoder_for(annotation, f"{name}.{hook}")


def _first_annotation(function: Callable[..., Any], where: str) -> Any:
    names = [name for name in inspect.signature(function).parameters if name != "context"]
    if not names:
        raise ConfigError(f"{where} takes no request; give it one parameter.")
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise ConfigError(f"{where}: its annotation cannot be resolved ({error}); import the name.") from None
    return hints.get(names[0], Any)


def _stream_encoder(api: API) -> Callable[[Any, Any], Iterator[Any]]:
    """`((request, pieces), context) -> encoded pieces`."""
    encode = piecewise(api)
    if encode is None:
        return lambda pair, context: iter(pair[1])
    return lambda pair, context: encode(pair[1], context)


def piecewise(api: API) -> Callable[[Any, Any], Iterator[Any]] | None:
    """`(pieces, context) -> encoded pieces`, see `API.encode_response`; None if the API does not encode."""
    if type(api).encode_response is API.encode_response:
        return None
    encode = _hook(api.encode_response)
    if inspect.isgeneratorfunction(api.encode_response):
        return encode
    return lambda pieces, context: (encode(piece, context) for piece in pieces)
