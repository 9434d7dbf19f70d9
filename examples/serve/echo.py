"""The smallest service: a class with `predict`.

python examples/serve/echo.py
curl -d '{"name": "Ada", "times": 2}' http://127.0.0.1:8000/predict
"""

import sys

import msgspec

from blixt.serve import API, HTTPError, Server


class Greeting(msgspec.Struct):
    """What a client sends; a body that does not fit is answered 422."""

    name: str
    times: int = 1


class Greeter(API):
    def setup(self, device: str) -> None:
        self.words = "Hello"  # load a model here: it runs once in each worker

    def predict(self, greeting: Greeting) -> dict[str, str]:
        if greeting.times > 3:
            raise HTTPError(400, "Three times is enough.")
        return {"text": f"{self.words}, {greeting.name}! " * greeting.times}


if __name__ == "__main__":
    Server(Greeter()).run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
