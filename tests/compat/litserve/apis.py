"""LitAPIs of the tests; here, so that spawned workers can import them."""

import json
import os
import time

import numpy as np
import pydantic

from blixt.compat import litserve as ls


class Square(ls.LitAPI):
    def setup(self, device):
        self.model = lambda x: x**2

    def decode_request(self, request):
        return request["input"]

    def predict(self, x):
        return self.model(x)

    def encode_response(self, output):
        return {"output": output, "worker": os.environ["LITSERVE_WORKER_ID"], "device": self.device}


class Fails(Square):
    def predict(self, x):
        if x == "http":
            from fastapi import HTTPException

            raise HTTPException(418, "teapot", {"x-tea": "green"})
        if x == "die":
            os._exit(3)
        raise RuntimeError("a secret: hunter2")


class Batched(ls.LitAPI):
    """Notes the size of its batch in each context."""

    def decode_request(self, request, context):
        context["name"] = request["name"]
        return request["name"]

    def batch(self, inputs, context):
        for one in context:
            one["size"] = len(inputs)
        return inputs

    def predict(self, x, context):
        time.sleep(0.05)
        return [name.upper() for name in x]

    def unbatch(self, output, context):
        return output

    def encode_response(self, output, context):
        return {"output": output, **context}


class Short(Batched):
    def unbatch(self, output):
        return output[:-1]


class Words(ls.LitAPI):
    def decode_request(self, request):
        return request["prompt"]

    def predict(self, x):
        if x == "die":
            os._exit(3)
        yield from x.split()

    def encode_response(self, output):
        for word in output:
            yield {"word": word} if word.startswith("d") else word


class BatchedWords(ls.LitAPI):
    def decode_request(self, request):
        return request["prompt"]

    def predict(self, x):
        for column in zip(*(prompt.split() for prompt in x), strict=True):
            yield list(column)

    def unbatch(self, output):
        yield from output

    def encode_response(self, output):
        for words in output:
            yield [word.lower() for word in words]


class Async(ls.LitAPI):
    async def decode_request(self, request):
        return request["input"]

    async def predict(self, x):
        return x + 1

    async def encode_response(self, output):
        return {"output": output}


class AsyncWords(ls.LitAPI):
    async def decode_request(self, request):
        return request["n"]

    async def predict(self, x):
        for number in range(x):
            yield number

    async def encode_response(self, output):
        async for number in output:
            yield {"n": number}


class Typed(ls.LitAPI):
    class Body(pydantic.BaseModel):
        x: int

    def decode_request(self, request: Body):
        return request.x

    def predict(self, x):
        return x * 2


class Upload(ls.LitAPI):
    def decode_request(self, request):
        return len(request["file"].file.read()) + int(request.get("plus", 0))

    def predict(self, x):
        return x


class Chat(ls.LitAPI):
    def predict(self, x, context):
        yield f"{x.messages[-1].content} "
        if x.tools:
            call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            yield {"role": "assistant", "content": "", "tool_calls": [call]}
        yield {"role": "assistant", "content": str(context["temperature"]), "completion_tokens": 3}


class Embed(ls.LitAPI):
    def predict(self, x):
        return [[float(len(text)), 1.0] for text in x]

    def encode_response(self, output):
        return {"embeddings": output, "prompt_tokens": 4, "total_tokens": 4}


class Vectors(ls.LitAPI):
    def predict(self, x):
        return np.array([[len(text), 1] for text in x], np.float32)


class WrongEmbed(Embed):
    def encode_response(self, output):
        return "vectors" if output[0][0] == 3 else {"vectors": output}


class Power(ls.LitAPI):
    """Raises a number to a power."""

    class Body(pydantic.BaseModel):
        base: float
        exponent: int = pydantic.Field(2, ge=0, description="how often")

    def decode_request(self, request: Body, context):
        return request.base**request.exponent

    def predict(self, x):
        return x


class Locked(Square):
    def authorize(self, token: str = ""):
        from fastapi import HTTPException

        if token != "open sesame":
            raise HTTPException(401, "no")


class Gated(Square):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def setup(self, device):
        while not (self.folder / "open").exists():
            time.sleep(0.02)

    def health(self):
        (self.folder / "asked").touch()
        return True


class Sick(Square):
    def health(self):
        raise RuntimeError("the database is away")


class AsyncSick(Square):
    async def health(self):
        raise RuntimeError("the database is away")


class FileLogger(ls.Logger):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def process(self, key, value):
        with open(self.path, "a") as file:
            file.write(f"{key}={value}\n")


class Notes(ls.Callback):
    """Writes into a file what it is told."""

    def __init__(self, path):
        self.path = path

    def _note(self, text):
        with open(self.path, "a") as file:
            file.write(text + "\n")

    def on_after_setup(self, lit_api):
        self._note(f"setup {type(lit_api).__name__}")

    def on_before_predict(self, lit_api):
        lit_api.log("asked", 1)
        raise RuntimeError("harms nobody")

    def on_request(self, active_requests, **kwargs):
        self._note(f"request {active_requests}")


def rpc(client, method, **params):
    """Ask the MCP server."""
    accepted = {"accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = client.post("/mcp/", json=body, headers=accepted)
    assert answer.status_code == 200, answer.text
    (data,) = [line for line in answer.text.splitlines() if line.startswith(("data: {", "{"))]
    return json.loads(data.removeprefix("data: "))["result"]
