"""The benchmark's models under blixt: `python -m benchmarks.serve._blixt_models MODEL PORT`."""

import sys
from collections.abc import Iterator
from typing import Any

from blixt.serve import API, Server


class Echo(API):
    def predict(self, x: Any) -> Any:
        return {"output": x["input"]}


class Batched(API):
    def predict(self, batch: Any) -> Any:
        return [{"output": item["input"]} for item in batch]


class Stream(API):
    def predict(self, x: Any) -> Iterator[Any]:
        for i in range(100):
            yield {"token": i}


if __name__ == "__main__":
    models = {"echo": Echo(), "batched": Batched(32, 0.002), "stream": Stream(stream=True)}
    Server(models[sys.argv[1]], accelerator="cpu").run(port=int(sys.argv[2]))
