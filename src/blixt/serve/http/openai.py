"""A spec's routes in front of the hub, and the list of models that OpenAI's clients ask for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure, HTTPError
from blixt.serve.http.answers import whole
from blixt.serve.http.exchange import JSON, SSE, Exchange
from blixt.serve.http.gate import Gate
from blixt.serve.http.lane import Lane, bounded, echo, follow, submission_of
from blixt.serve.http.sinks import Item, StreamSink
from blixt.serve.http.sse import KEEP_ALIVE
from blixt.serve.service import Running
from blixt.serve.specs.base import Call, Endpoint, Spec
from blixt.serve.specs.openai_wire import error_body, model_object, models_body
from blixt.serve.wire import Kind

_failure = msgspec.json.Decoder(Failure)


@dataclass(frozen=True, slots=True)
class Target:
    """One API that answers on a spec's route."""

    gate: Gate
    spec: Spec
    endpoint: Endpoint


class _Named(msgspec.Struct):
    model: str | None = None


_named = msgspec.json.Decoder(_Named)


class SpecLane(Lane):
    """One route of a spec, served by one API or by several of different models.

    Args:
        targets: The APIs; the body's `model` chooses between them.
    """

    cold_reason = "its answers are put into the spec's shape by the app"

    def __init__(self, targets: Sequence[Target]) -> None:
        first = targets[0]
        super().__init__(first.gate, first.spec.error_body)
        self.targets = list(targets)
        self.summary = first.endpoint.summary
        self._by_model = {model: target for target in targets for model in target.spec.models}

    def choose(self, body: bytes) -> Gate:
        """The API of the body's model."""
        return self._target(body).gate

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Check in the front, answer in workers, put the pieces into the spec's shape."""
        target = self._target(body)
        call = target.endpoint.parse(body)
        streams = target.spec.streams and call.stream
        sink = StreamSink(running.pool.hub, self.gate.keep_alive_s if streams else 0.0)
        said = submission_of(exchange, running)
        for message in call.messages:
            sink.submit(message, said)
        follow(exchange, sink.tickets)
        exchange.watch(sink.leave)
        try:
            if streams:
                await self._stream(exchange, sink, call)
            else:
                await self._whole(exchange, sink, call)
        finally:
            sink.cancel()
            if call.tokens is not None:
                running.metrics.tokens(*call.tokens, call.cached_tokens)
                running.metrics.token_seconds.observe_all(call.token_seconds)

    def _target(self, body: bytes) -> Target:
        """The API for a body; one that cannot be read goes to the first, whose parser says what is wrong."""
        if None in self._by_model and len(self._by_model) == 1:
            return self.targets[0]
        try:
            model = _named.decode(body).model
        except (msgspec.DecodeError, UnicodeDecodeError):
            model = None
        if model is None:
            return self.targets[0]
        target = self._by_model.get(model) or self._by_model.get(None)
        if target is None:
            raise no_model(model, [str(name) for name in self._by_model])
        return target

    async def _whole(self, exchange: Exchange, sink: StreamSink, call: Call) -> None:
        outputs: list[list[bytes]] = [[] for _ in call.messages]
        size_bytes = 0
        while sink.live:
            for index, kind, payload in await sink.next():
                size_bytes = bounded(size_bytes + len(payload))
                if kind in (Kind.CHUNK, Kind.OK, Kind.RAW):
                    outputs[index].append(payload)
                elif kind != Kind.END:
                    answer = whole(kind, payload, self.error_body)
                    return await self.answer(exchange, answer.status, answer.body, answer.headers)
        media = (b"content-type", call.media_type.encode())
        await self.answer(exchange, 200, call.whole(outputs), [media])

    async def _stream(self, exchange: Exchange, sink: StreamSink, call: Call) -> None:
        items = await sink.next()
        if items and items[0][1] == Kind.ERROR:
            return await self.fail(exchange, _failure.decode(items[0][2]))
        await exchange.start_stream([*SSE, *echo(exchange)])
        await exchange.piece(call.opening() or KEEP_ALIVE)
        while True:
            data, failed = _shaped(call, items)
            if failed or not sink.live:
                return await exchange.end_stream(data if failed else data + call.closing())
            await exchange.piece(data or KEEP_ALIVE)
            items = await sink.next()


class ModelsLane(Lane):
    """`GET /v1/models` and `GET /v1/models/{name}`."""

    method = "GET"

    def __init__(self, gate: Gate, models: Sequence[str]) -> None:
        super().__init__(gate, error_body)
        self._models = list(models)
        self._created = int(time.time())

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """List the models, or show one."""
        name = exchange.path.removeprefix("/v1/models").strip("/")
        if not name:
            listed = models_body(self._models, self._created)
            return await self.answer(exchange, 200, listed, [JSON])
        if name not in self._models:
            raise no_model(name, self._models)
        await self.answer(exchange, 200, to_json(model_object(name, self._created)), [JSON])


def no_model(name: str, models: Sequence[str]) -> HTTPError:
    """A model that is not served here."""
    served = ", ".join(repr(model) for model in models)
    detail: dict[str, Any] = {
        "message": f"The model {name!r} does not exist; this server has {served}.",
        "code": "model_not_found",
        "param": "model",
    }
    return HTTPError(404, detail)


def _shaped(call: Call, items: list[Item]) -> tuple[bytes, bool]:
    """A stream's next bytes, and whether it has failed."""
    data = b""
    for index, kind, payload in items:
        if kind in (Kind.CHUNK, Kind.OK):
            data += call.piece(index, payload)
        elif kind == Kind.ERROR:
            return data + call.failed(_failure.decode(payload)), True
    return data, False
