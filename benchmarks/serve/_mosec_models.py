"""The benchmark's models under mosec: `python benchmarks/serve/_mosec_models.py MODEL PORT`.

mosec reads the command line in `Server()` and starts workers by importing this file, so the model's name
travels in the environment.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from mosec import Server, SSEWorker, Worker

sys.path.insert(0, str(Path(__file__).parents[2]))
TOKENS = 200


class Echo(Worker):
    def forward(self, data: Any) -> Any:
        return {"output": data["input"]}


class Batched(Worker):
    def forward(self, data: list[Any]) -> Any:
        return [{"output": item["input"]} for item in data]


class MLP(Worker):
    def __init__(self) -> None:
        from benchmarks.serve._mlp import make

        self.model = make()

    def forward(self, data: list[Any]) -> Any:
        return [{"output": value} for value in self.model([item["input"] for item in data])]


class Stream(SSEWorker):
    def forward(self, data: list[Any]) -> Any:
        for i in range(TOKENS):
            for index in range(len(data)):
                self.send_stream_event(f'{{"token":{i}}}', index=index)
        return data


class Large(Worker):
    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> Any:
        return {"bytes": len(data)}


class Who(Worker):
    def forward(self, data: Any) -> Any:
        time.sleep(0.005)
        return {"pid": os.getpid()}


def main() -> None:
    """Serve one of them."""
    name, port = sys.argv[1:]
    sys.argv[1:] = [
        "--address",
        "127.0.0.1",
        "--port",
        port,
        "--timeout",
        "10000" if name == "who" else "60000",
        "--log-level",
        "error",
    ]
    server = Server()
    workers = {"echo": Echo, "batched": Batched, "mlp": MLP, "stream": Stream, "large": Large, "who": Who}
    if name == "who":
        server.append_worker(Who, num=2, route="/predict")
    elif name in ("echo", "large"):
        server.append_worker(workers[name], route="/predict")
    else:
        server.append_worker(workers[name], max_batch_size=64, max_wait_time=2, route="/predict")
    server.run()


if __name__ == "__main__":
    main()
