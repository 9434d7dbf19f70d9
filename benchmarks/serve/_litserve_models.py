"""The benchmark's models under LitServe: `python -m benchmarks.serve._litserve_models MODEL PORT`.

LitServe takes no raw body, so `large` is a multipart form with one file.
"""

import os
import sys
import time
from typing import Any

# LitServe 0.2.19 cannot start beside mcp 2: let it believe there is none.
sys.modules["mcp"] = None  # type: ignore[assignment]

import litserve  # noqa: E402

TOKENS = 200


class Echo(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def predict(self, x: Any) -> Any:
        return {"output": x["input"]}


class Batched(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: Any) -> Any:
        return [{"output": item["input"]} for item in x]

    def unbatch(self, output: Any) -> Any:
        return output


class MLP(Batched):
    def setup(self, device: str) -> None:
        from benchmarks.serve._mlp import make

        self.model = make()

    def predict(self, x: Any) -> Any:
        return [{"output": value} for value in self.model([item["input"] for item in x])]


class Stream(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x):  # unannotated: LitServe hands annotations to FastAPI, which takes no iterator
        for i in range(TOKENS):
            yield [{"token": i}] * len(x)

    def unbatch(self, output):
        yield from output

    def encode_response(self, output):
        yield from output


class Large(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request):  # unannotated: LitServe makes FastAPI parameters of annotations
        return request["body"].file.read()

    def predict(self, x: bytes) -> Any:
        return {"bytes": len(x)}


class Who(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def predict(self, x: Any) -> Any:
        time.sleep(0.005)
        return {"pid": os.getpid()}


def main() -> None:
    """Serve one of them."""
    name, port = sys.argv[1:]
    apis = {
        "echo": lambda: Echo(),
        "batched": lambda: Batched(max_batch_size=64, batch_timeout=0.002),
        "mlp": lambda: MLP(max_batch_size=64, batch_timeout=0.002),
        "stream": lambda: Stream(stream=True, max_batch_size=64, batch_timeout=0.002),
        "large": lambda: Large(),
        "who": lambda: Who(),
    }
    more = {"workers_per_device": 2, "restart_workers": True} if name == "who" else {}
    server = litserve.LitServer(apis[name](), accelerator="cpu", timeout=False, **more)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
