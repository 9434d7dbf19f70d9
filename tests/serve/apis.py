"""The models the tests serve; here, so that spawned workers can import them."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pydantic

from blixt.serve import API, ChatRequest, CompletionRequest, HTTPError, Piece


class Point(msgspec.Struct):
    x: int
    tags: list[str] = []


class Order(pydantic.BaseModel):
    item: str
    count: int = pydantic.Field(gt=0)


class Tools(API):
    """Does what the request says."""

    def predict(self, request: Any) -> Any:
        match request["do"]:
            case "echo":
                return {"output": request["input"]}
            case "pid":
                return os.getpid()
            case "raise":
                raise RuntimeError("a secret: hunter2")
            case "teapot":
                raise HTTPError(418, {"sort": "short and stout"}, {"x-tea": "green"})
            case "unencodable":
                return object()
            case "bytes":
                return b"\x00\x01raw"


class Typed(API):
    api_path = "/typed"

    def predict(self, point: Point) -> Any:
        return {"double": point.x * 2, "tags": point.tags}


class Modelled(API):
    api_path = "/modelled"

    def decode_request(self, order: Order, context: dict[str, Any]) -> int:
        context["item"] = order.item
        return order.count

    def predict(self, count: int) -> int:
        return count + 1

    def encode_response(self, output: int, context: dict[str, Any]) -> Any:
        return Order(item=context["item"], count=output)


class Raw(API):
    api_path = "/raw"

    def predict(self, body: bytes) -> int:
        return len(body)


class Ticker(API):
    """Streams numbers; notes in a file how far it came, and that it was closed."""

    api_path = "/ticks"
    stream = True

    def predict(self, request: dict[str, Any]) -> Iterator[Any]:
        log = Path(request["log"]) if "log" in request else None
        sent = 0
        try:
            for i in range(request["n"]):
                if i == request.get("fail_at"):
                    raise HTTPError(409, "no more")
                if i == request.get("break_at"):
                    raise RuntimeError("a secret: hunter2")
                sent = i + 1
                yield {"i": i, "at": time.monotonic(), "pad": "." * request.get("pad", 0)}
                while "gate" in request and not os.path.exists(request["gate"]):
                    time.sleep(0.01)
                time.sleep(request.get("pause_s", 0))
        finally:
            if log is not None:
                draft = log.with_suffix(".draft")
                draft.write_text(str(sent))
                draft.rename(log)  # whoever sees the file sees the number


class Batched(API):
    """Answers with the size of its batch; a list in it names a file to wait for."""

    api_path = "/batched"

    def predict(self, batch: list[int | list[str]]) -> list[Any]:
        time.sleep(0.02)
        for value in batch:
            while isinstance(value, list) and not os.path.exists(value[0]):
                time.sleep(0.01)
        if -1 in batch:
            raise HTTPError(422, "a minus one spoils the batch")
        return [[value, len(batch)] for value in batch]


class ShortBatch(API):
    def predict(self, batch: list[Any]) -> list[Any]:
        return batch[:-1]


class Sleeper(API):
    """Sleeps as long as asked, or until a file is there; may die in the middle."""

    def predict(self, request: dict[str, Any]) -> Any:
        if request.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(request.get("s", 0))
        while "gate" in request and not os.path.exists(request["gate"]):
            time.sleep(0.01)
        return os.getpid()


class BadSetup(API):
    def setup(self, device: str) -> None:
        raise FileNotFoundError("weights.bin is missing")

    def predict(self, x: Any) -> Any:
        return x


class StubbornSetup(API):
    """Fails while a thread of its own goes on."""

    def setup(self, device: str) -> None:
        threading.Thread(target=threading.Event().wait, args=(600,)).start()
        raise RuntimeError("no weights")

    def predict(self, x: Any) -> Any:
        return x


class Unpicklable(API):
    def __init__(self) -> None:
        super().__init__()
        self.function = lambda x: x

    def predict(self, x: Any) -> Any:
        return x


class Parrot(API):
    """Speaks OpenAI: answers with the words of the prompt."""

    def predict(self, request: ChatRequest | CompletionRequest) -> Iterator[Any]:
        text = request.messages[-1].text if isinstance(request, ChatRequest) else str(request.prompt)
        if text == "too long":
            raise HTTPError(400, "The prompt is too long.")
        if text == "break":
            yield "one "
            raise RuntimeError("a secret: hunter2")
        if text == "call":
            yield Piece(
                tool_calls=[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a"'}}]
            )
            yield Piece(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}])
            return
        if text == "params":
            numbers = (
                request.temperature,
                request.top_p,
                request.seed,
                len(request.stops),
                request.max_tokens,
            )
            yield " ".join(str(number) for number in numbers)
            return
        yield Piece(prompt_tokens=len(text.split()), tokens=0)
        for word in text.split():
            yield f"{word} "
