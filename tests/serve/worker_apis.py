"""Models for the tests of what happens around hooks; here, so that spawned workers can import them."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blixt.serve import API, Callback, HTTPError, Logger


class Doom(API):
    """Ends in the way it is told to."""

    def predict(self, request: dict[str, Any]) -> Any:
        match request.get("do"):
            case "exit":
                sys.exit(3)
            case "segfault":
                ctypes.string_at(0)
            case "hang":
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                time.sleep(600)
            case "leak":
                self.leaked = [*getattr(self, "leaked", []), bytearray(os.urandom(1)) * (40 << 20)]
            case "once":  # dies the first time it is tried, in whatever worker
                marker = Path(request["marker"])
                if not marker.exists():
                    marker.write_text("tried")
                    os.kill(os.getpid(), signal.SIGKILL)
            case "count":
                with open(request["file"], "a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()


class SlowSetup(API):
    """Sets up for as long as its file is absent."""

    def __init__(self, gate: str, **options: Any) -> None:
        super().__init__(**options)
        self.gate = gate

    def setup(self, device: str) -> None:
        while not Path(self.gate).exists():
            time.sleep(0.02)

    def predict(self, x: Any) -> Any:
        return x


class FailsOnce(API):
    """Fails in its first setup and succeeds in its second."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    def setup(self, device: str) -> None:
        if not Path(self.marker).exists():
            Path(self.marker).write_text("failed")
            raise OSError("the disk was busy")

    def predict(self, x: Any) -> Any:
        return x


# -- pipelines and calls -----------------------------


class Resize(API):
    def predict(self, size: int) -> Any:
        if size < 0:
            raise HTTPError(422, "a size below zero")
        return {"pid": os.getpid(), "array": np.full((size, size), 2.0, np.float32)}


class Sum(API):
    max_batch_size = 4

    def decode_request(self, item: Any) -> Any:
        return item

    def predict(self, items: list[Any]) -> list[Any]:
        return [
            {"pids": [item["pid"], os.getpid()], "sum": float(item["array"].sum()), "batch": len(items)}
            for item in items
        ]


class Label(API):
    def __init__(self) -> None:
        super().__init__()
        self.warmed = 0

    def examples(self) -> list[Any]:
        return [{"pids": [], "sum": 1.0, "batch": 1}]

    def predict(self, item: dict[str, Any]) -> Any:
        self.warmed += not item["pids"]
        return {
            "warmed": self.warmed,
            **item,
            "pids": [*item["pids"], os.getpid()],
            "label": "many" if item["sum"] > 100 else "few",
        }


class Spell(API):
    """A last stage that streams."""

    stream = True

    def predict(self, item: dict[str, Any]) -> Iterator[str]:
        yield from ("sum", "is", str(item["sum"]))


class Asker(API):
    """Calls others while it answers."""

    api_path = "/asker"

    def predict(self, request: dict[str, Any]) -> Any:
        answer = self.call(request["api"], request["x"])
        return {"pid": os.getpid(), "answer": answer}


class AsyncAsker(API):
    api_path = "/async-asker"

    async def predict(self, request: dict[str, Any]) -> Any:
        import asyncio

        answers = await asyncio.gather(*(self.call(request["api"], x) for x in request["xs"]))
        return {"answers": answers}


class BatchAsker(API):
    """Calls once for a whole batch."""

    api_path = "/batch-asker"
    max_batch_size = 2
    batch_timeout_s = 60.0

    def predict(self, requests: list[dict[str, Any]]) -> list[Any]:
        return [self.call(requests[0]["api"], requests[0]["x"])] * len(requests)


class Lingerer(API):
    """Answers only when it learns that nobody waits; notes both in the file it is given."""

    api_path = "/lingerer"
    context_fields = ("request_id",)

    def predict(self, path: str, context: Any) -> str:
        _note(path, f"begun {context['request_id']}")
        while not context.cancelled:
            time.sleep(0.01)
        _note(path, "left")
        return "nobody"


def _note(path: str, line: str) -> None:
    with open(path, "a") as file:
        file.write(line + "\n")


class Doubler(API):
    api_path = "/doubler"

    def predict(self, x: float) -> float:
        if x < 0:
            raise HTTPError(422, "below zero", {"x-why": "sign"})
        return 2 * x


class ArrayAsker(API):
    """Sends a large array to another worker and gets one back."""

    api_path = "/array-asker"

    def predict(self, n: int) -> Any:
        array = self.call("Incrementer", np.zeros(n))
        return [len(array), float(array.sum())]


class Incrementer(API):
    api_path = "/incrementer"

    def predict(self, array: Any) -> Any:
        array += 1  # it is ours to write to
        return array


class SelfAsker(API):
    """Calls itself with one worker: can only end at the deadline."""

    api_path = "/self"

    def predict(self, x: Any) -> Any:
        return self.call("SelfAsker", x)


class Ticks(API):
    api_path = "/ticks"
    stream = True

    def predict(self, n: int) -> Iterator[int]:
        yield from range(n)


# -- callbacks and loggers -----------------------------


class Notes(Callback):
    """Writes every event into a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def note(self, text: str) -> None:
        with open(self.file, "a") as file:
            file.write(text + "\n")

    def on_before_setup(self, api: API) -> None:
        self.note("before setup")

    def on_after_setup(self, api: API) -> None:
        self.note("after setup")

    def on_before_decode_request(self, api: API) -> None:
        self.note("before decode")

    def on_after_decode_request(self, api: API) -> None:
        self.note("after decode")

    def on_before_predict(self, api: API) -> None:
        self.note(f"before predict of {type(api).__name__}")

    def on_after_predict(self, api: API) -> None:
        self.note("after predict")

    def on_before_encode_response(self, api: API) -> None:
        self.note("before encode")

    def on_after_encode_response(self, api: API) -> None:
        self.note("after encode")

    def on_request(self, active_requests: int) -> None:
        self.note(f"request, {active_requests} active")

    def on_response(self, active_requests: int) -> None:
        self.note(f"response, {active_requests} active")

    def on_server_start(self, server: Any) -> None:
        self.note("server start")

    def on_server_end(self, server: Any) -> None:
        self.note("server end")


class Faulty(Callback):
    def on_before_predict(self, api: API) -> None:
        raise RuntimeError("a callback's own trouble")


class FileLogger(Logger):
    def __init__(self, file: str) -> None:
        self.file = file

    def process(self, key: str, value: Any) -> None:
        if key == "poison":
            raise ValueError("a logger's own trouble")
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()} {key}={value}\n")


class Logs(API):
    def predict(self, request: dict[str, Any]) -> int:
        for key, value in request.items():
            self.log(key, value)
        self.log("lambda", lambda: None)
        return os.getpid()


class Healthy(API):
    """Its health is what a file says."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def predict(self, x: Any) -> Any:
        return x

    def health(self) -> bool:
        text = Path(self.file).read_text()
        if text == "hang":
            time.sleep(600)
        if text == "raise":
            raise RuntimeError("no health")
        return text == "well"


class AsyncHealthy(Healthy):
    async def health(self) -> bool:
        return Path(self.file).read_text() == "well"


class Warm(API):
    """Counts the examples it was warmed up with."""

    def __init__(self, bad: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.bad = bad
        self.seen: list[Any] = []

    def examples(self) -> list[Any]:
        return [{"x": "no number"}] if self.bad else [1, 2, 3]

    def predict(self, x: Any) -> Any:
        if isinstance(x, list):
            self.seen.append(list(x))
            return [list(self.seen)] * len(x)
        self.seen.append(x + 0)
        return self.seen


class Stage(API):
    """Says in a folder when it has begun, goes on when it may, and hands on a large array."""

    context_fields = ("headers",)

    def __init__(self, name: str, last: bool = False) -> None:
        super().__init__()
        self.name = name
        self.last = last

    def predict(self, item: dict[str, Any], context: dict[str, Any]) -> Any:
        folder = Path(item["folder"])
        (folder / f"{self.name} began").touch()
        while self.name in item.get("held", ()) and not (folder / f"{self.name} may go").exists():
            time.sleep(0.01)
        pids = [*item.get("pids", ()), os.getpid()]
        if self.last:
            return {"pids": pids, "sum": float(item["array"].sum()), "who": context["headers"].get("x-who")}
        return {**item, "pids": pids, "array": np.ones(100_000, np.float32)}
