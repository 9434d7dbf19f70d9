"""The benchmark's models under blixt: `python -m benchmarks.serve._blixt_models MODEL PORT [cold]`."""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from blixt.serve import API, Limits, Server

TOKENS = 200


class Echo(API):
    def predict(self, x: Any) -> Any:
        return {"output": x["input"]}


class Batched(API):
    def predict(self, batch: list[Any]) -> Any:
        return [{"output": item["input"]} for item in batch]


class MLP(API):
    def setup(self, device: str) -> None:
        from benchmarks.serve._mlp import make

        self.model = make()

    def predict(self, batch: list[Any]) -> Any:
        return [{"output": value} for value in self.model([item["input"] for item in batch])]


class Stream(API):
    def predict(self, x: Any) -> Iterator[Any]:
        for i in range(TOKENS):
            yield {"token": i}


class Large(API):
    def predict(self, body: bytes) -> Any:
        return {"bytes": len(body)}


class Who(API):
    def predict(self, x: Any) -> Any:
        time.sleep(0.005)
        return {"pid": os.getpid()}


def main() -> None:
    """Serve one of them."""
    models = {
        "echo": Echo(),
        "batched": Batched(64, 0.002),
        "mlp": MLP(64, 0.002),
        "stream": Stream(stream=True),
        "large": Large(),
        "who": Who(),
    }
    name, port, *rest = sys.argv[1:]
    server = Server(
        models[name],
        accelerator="cpu",
        workers_per_device=2 if name == "who" else 1,
        limits=Limits(keep_alive_s=60),
        **({"hot_lane": False} if rest else {}),
    )
    server.run(port=int(port))


if __name__ == "__main__":
    main()
