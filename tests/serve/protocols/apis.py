"""What the protocol tests serve; here, so that spawned workers can import them."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from blixt.serve import API, ChatRequest, CompletionRequest, HTTPError, Piece, UploadFile
from blixt.serve.specs.base import Call, Endpoint, Spec
from blixt.serve.specs.openai_types import Embedding, EmbeddingRequest, TokenLogprob, data_of


class Talker(API):
    """Speaks OpenAI; the last message says what to do."""

    def predict(self, request: ChatRequest | CompletionRequest) -> Iterator[Any]:
        chat = isinstance(request, ChatRequest)
        text = request.messages[-1].text if chat else str(request.prompt)
        yield Piece(prompt_tokens=len(text.split()), tokens=0)
        match text.split() or [""]:
            case ["logprobs"]:
                for token in ("Hi", " you"):
                    top = [TokenLogprob(token, -0.1), TokenLogprob("Yo", -2.0)]
                    yield Piece(token, logprobs=[TokenLogprob(token, -0.1, top)])
            case ["think"]:
                yield Piece(reasoning="Let me ", reasoning_tokens=1)
                yield Piece(reasoning="see.", reasoning_tokens=1, cached_tokens=1)
                yield "42"
            case ["refuse"]:
                yield Piece(refusal="I will not.")
            case ["tool"]:
                name = request.tools[0]["function"]["name"]
                yield "Calling. "
                for index, city in enumerate(("Oslo", "Rome")):
                    function = {"name": name, "arguments": '{"city": '}
                    yield Piece(tool_calls=[{"index": index, "id": f"call_{index}", "function": function}])
                    yield Piece(tool_calls=[{"index": index, "function": {"arguments": f'"{city}"}}'}}])
            case ["tools", "said"]:
                yield " ".join(f"{m.role}:{m.tool_call_id or ''}:{m.text}" for m in request.messages)
            case ["format"]:
                yield str(request.response_format["json_schema"]["name"])
            case ["parts"]:
                message = request.messages[-1]
                pictures = [len(data_of(url)[1]) for url in message.images]
                yield f"{pictures} {[(kind, len(data)) for kind, data in message.audios]}"
            case ["person"]:
                yield from ('{"name": ', '"Ada", ', '"age": 36}')
            case ["choice"]:
                yield f"choice {request.choice} seed {request.seed}"
            case ["break"]:
                yield "one "
                raise RuntimeError("a secret: hunter2")
            case ["slow"]:
                time.sleep(1.2)
                yield "late"
            case words:
                for word in words:
                    yield f"{word} "


class Shouter(API):
    """Another model on the same server; async."""

    async def predict(self, request: ChatRequest | CompletionRequest) -> AsyncIterator[str]:
        text = request.messages[-1].text if isinstance(request, ChatRequest) else str(request.prompt)
        for word in text.split():
            await asyncio.sleep(0)
            yield f"{word.upper()} "


class Embedder(API):
    """Batched: a vector holds the input's length and the batch's size."""

    def predict(self, batch: list[EmbeddingRequest]) -> list[Any]:
        time.sleep(0.02)
        if any(request.input == "fail" for request in batch):
            raise HTTPError(400, "an input spoils the batch")
        return [Embedding([float(len(request.input)), float(len(batch)), 0.5], tokens=2) for request in batch]


class Rot13Spec(Spec):
    """A wire API of the user's own: lines of text."""

    def endpoints(self) -> list[Endpoint]:
        text = {"type": "string"}
        return [Endpoint("/rot13", self.parse, "Rot13", text, text, "text/plain", "text/plain")]

    def parse(self, body: bytes) -> Call:
        if not body.isascii():
            raise HTTPError(422, "only ASCII can be turned")
        lines = body.decode().splitlines()
        if lines == ["bug"]:
            raise ZeroDivisionError("a secret: hunter2")
        return Lines([msgspec.json.encode(line) for line in lines], stream=len(lines) > 2)


class Lines(Call):
    media_type = "text/plain"

    def whole(self, outputs: list[list[bytes]]) -> bytes:
        return b"\n".join(msgspec.json.decode(pieces[0]).encode() for pieces in outputs)


class Rot13(API):
    spec = Rot13Spec()

    def predict(self, line: str) -> Iterator[str]:
        import codecs

        yield codecs.encode(line, "rot13")


class Upto(msgspec.Struct, omit_defaults=True):
    n: Annotated[int, msgspec.Meta(ge=0, le=2000)]
    fail_at: int | None = None
    stream: bool = False


class Count(API):
    """Counts to n; the client chooses how it is told."""

    api_path = "/count"
    stream = "auto"

    def predict(self, request: Upto) -> Iterator[int]:
        if not 0 <= request.n <= 2000:
            raise HTTPError(422, "n must be from 0 to 2000")
        for i in range(request.n):
            if i == request.fail_at:
                raise HTTPError(409, "no more")
            yield i

    def join(self, pieces: list[Any]) -> Any:
        return {"sum": sum(pieces), "pieces": pieces}


class Big(API):
    """Answers with so many letters."""

    api_path = "/big"

    def predict(self, n: Annotated[int, msgspec.Meta(ge=0, le=10_000)]) -> str:
        if not 0 <= n <= 10_000:  # msgspec does not bound integers that need more than 64 bits
            raise HTTPError(422, "n must be from 0 to 10000")
        return "a" * n


class Slow(API):
    """A stream with a long silence in it."""

    api_path = "/slow"
    stream = True

    def predict(self, request: dict[str, float]) -> Iterator[str]:
        time.sleep(request.get("before_s", 0))
        yield "first"
        time.sleep(request.get("between_s", 0))
        yield "second"


class Guarded(API):
    """Has a say of its own in who may ask."""

    api_path = "/guarded"

    def authorize(self, auth: HTTPAuthorizationCredentials = Depends(HTTPBearer())) -> None:
        if auth.credentials != "open sesame":
            raise HTTPException(403, "wrong words", {"x-hint": "seeds"})

    def predict(self, x: Any) -> Any:
        return {"got": x}

    async def session(self, socket: Any) -> None:
        await socket.send("welcome")


class Peeker(API):
    """Authorises by what the body says."""

    api_path = "/peek"

    async def authorize(self, request: Request) -> None:
        if b"please" not in await request.body():
            raise HTTPException(403, "say please")

    def predict(self, x: Any) -> Any:
        return x


class Chat(API):
    """A websocket that does what its messages say."""

    api_path = "/chat"
    subprotocols = ("v2.chat", "v1.chat")

    async def session(self, socket: Any) -> None:
        async for message in socket:
            match message:
                case "bye":
                    await socket.close(4321, "so long")
                    return
                case "leave":
                    return
                case "teapot":
                    raise HTTPError(418, "short and stout")
                case "break":
                    raise RuntimeError("a secret: hunter2")
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "flood":
                    for i in range(2000):
                        await socket.send(f"{i}:" + "x" * 5000)
                case bytes():
                    await socket.send(message[::-1])
                case _:
                    await socket.send(f"you said {message}")


class Tick(API):
    """A sync websocket: yields what it makes of each message."""

    api_path = "/tick"

    def session(self, socket: Any) -> Iterator[Any]:
        for message in socket:
            yield {"length": len(message)}


class Point(msgspec.Struct):
    """Where something is."""

    x: int
    label: str = ""


class Locate(API):
    """Says how far a point is from the origin."""

    api_path = "/locate"

    def predict(self, point: Point) -> dict[str, int]:
        if point.x == -7:
            raise HTTPError(422, "unlucky", {"x-said": "a\r\nx-evil: 1"})
        if point.x == -8:
            raise HTTPException(402, "pay", {"x-price": "3"})
        if point.x < 0:
            raise HTTPError(422, "x is below zero")
        return {"distance": point.x}


class Traced(API):
    """Says which span its request belongs to."""

    api_path = "/traced"

    def predict(self, x: Any, context: dict[str, Any]) -> Any:
        return {"traceparent": context["traceparent"]}


class Picture(API):
    """Takes a file from a form."""

    api_path = "/picture"

    def predict(self, file: UploadFile) -> dict[str, Any]:
        return {"name": file.filename, "type": file.content_type, "size": file.size}


class GuardedTalker(Talker):
    """A model for those who know the words."""

    def authorize(self, auth: HTTPAuthorizationCredentials = Depends(HTTPBearer())) -> None:
        if auth.credentials != "open sesame":
            raise HTTPException(403, "wrong words", {"x-hint": "seeds"})


class Same(API):
    """A stage of a pipeline."""

    def predict(self, x: int) -> int:
        return x
