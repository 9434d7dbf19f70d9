"""OpenAI's routes in front of the hub."""

import time
from typing import Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure, HTTPError
from blixt.serve.http.exchange import JSON, SSE, Exchange
from blixt.serve.http.lane import Gate, Lane
from blixt.serve.http.sinks import StreamSink, submit_stream
from blixt.serve.http.sse import event
from blixt.serve.service import Running
from blixt.serve.specs.openai import OpenAISpec
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest, Piece
from blixt.serve.specs.openai_wire import Answer, error_body, model_object, models_body, read_request
from blixt.serve.wire import Kind

_piece = msgspec.json.Decoder(Piece)
_failure = msgspec.json.Decoder(Failure)
DONE = event(b"[DONE]")


class CompletionLane(Lane):
    """`/v1/chat/completions` or `/v1/completions`, streamed or whole."""

    def __init__(
        self, gate: Gate, spec: OpenAISpec, kind: type[ChatRequest] | type[CompletionRequest]
    ) -> None:
        super().__init__(gate, error_body)
        self._spec = spec
        self._kind: type[ChatRequest] | type[CompletionRequest] = kind

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Check in the front, generate in a worker, put the pieces into OpenAI's shapes."""
        request = read_request(self._kind, body, self._spec.model)
        sink = submit_stream(running.pool.hub, self._spec.write(request))
        exchange.watch(sink.leave)
        try:
            if request.stream:
                await self._stream(exchange, sink, Answer(request))
            else:
                await self._whole(exchange, sink, Answer(request))
        finally:
            sink.cancel()

    async def _whole(self, exchange: Exchange, sink: StreamSink, answer: Answer) -> None:
        pieces: list[Piece] = []
        while True:
            for kind, payload in await sink.next():
                if kind == Kind.CHUNK:
                    pieces.append(_piece.decode(payload))
                elif kind == Kind.ERROR:
                    return await self.fail(exchange, _failure.decode(payload))
                else:
                    return await exchange.answer(200, answer.whole(pieces), [JSON])

    async def _stream(self, exchange: Exchange, sink: StreamSink, answer: Answer) -> None:
        items = await sink.next()
        if items[0][0] == Kind.ERROR:
            return await self.fail(exchange, _failure.decode(items[0][1]))
        await exchange.start_stream(SSE)
        await exchange.piece(_events(answer.opening()))
        while True:
            data = b""
            for kind, payload in items:
                if kind == Kind.CHUNK:
                    data += _events(answer.chunks(_piece.decode(payload)))
                elif kind == Kind.ERROR:
                    failure = _failure.decode(payload)
                    return await exchange.end_stream(data + event(error_body(failure.status, failure.detail)))
                else:
                    return await exchange.end_stream(data + _events(answer.closing()) + DONE)
            await exchange.piece(data)
            items = await sink.next()


class ModelsLane(Lane):
    """`GET /v1/models` and `GET /v1/models/{name}`."""

    method = "GET"

    def __init__(self, gate: Gate, spec: OpenAISpec) -> None:
        super().__init__(gate, error_body)
        self._model = spec.model
        self._created = int(time.time())

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """List the models, or show one."""
        name = exchange.path.removeprefix("/v1/models").strip("/")
        if not name:
            return await exchange.answer(200, models_body(self._model, self._created), [JSON])
        if name != self._model:
            detail: dict[str, Any] = {
                "message": f"The model {name!r} does not exist.",
                "code": "model_not_found",
            }
            raise HTTPError(404, detail)
        await exchange.answer(200, to_json(model_object(name, self._created)), [JSON])


def _events(chunks: list[dict[str, Any]]) -> bytes:
    return b"".join(event(to_json(chunk)) for chunk in chunks)
