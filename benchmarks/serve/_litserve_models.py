"""The benchmark's models under LitServe: `python -m benchmarks.serve._litserve_models MODEL PORT`."""

import sys
from collections.abc import Iterator
from typing import Any

import litserve


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


class Stream(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def predict(self, x: Any) -> Iterator[Any]:
        for i in range(100):
            yield {"token": i}

    def encode_response(self, output):  # LitServe hands the annotation to FastAPI, which takes no iterator
        yield from output


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        api = Echo()
    elif sys.argv[1] == "batched":
        api = Batched(max_batch_size=32, batch_timeout=0.002)
    else:
        api = Stream(stream=True)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
