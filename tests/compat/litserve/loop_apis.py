"""LitAPIs with loops of LitServe's kind; here, so that spawned workers can import them."""

import os
from concurrent.futures import ThreadPoolExecutor

from fastapi import HTTPException

from blixt.compat import litserve as ls
from blixt.compat.litserve.loops import (
    BatchedLoop,
    ContinuousBatchingLoop,
    DefaultContinuousBatchingLoop,
    LitLoop,
    Output,
    SingleLoop,
)
from blixt.compat.litserve.utils import LitAPIStatus, LoopResponseType

REGULAR = LoopResponseType.REGULAR


class Cached(LitLoop):
    """A loop of a user's own, with a hook that no other loop knows."""

    def run(self, lit_api, device, worker_id, request_queue, transport, states, callback_runner):
        consumer, uid, _, body = request_queue.get()
        try:
            answer = lit_api.encode_response(lit_api.load_cache(body) * lit_api.decode_request(body))
            self.put_response(transport, consumer, uid, answer, LitAPIStatus.OK, REGULAR)
        except Exception as error:
            self.put_error_response(transport, consumer, uid, error)


class Tenfold(ls.LitAPI):
    def decode_request(self, request):
        if request["input"] == "teapot":
            raise HTTPException(418, "teapot")
        return request["input"]

    def load_cache(self, request):
        return 10

    def predict(self, x):
        raise AssertionError("the loop does not ask for it")

    def encode_response(self, output):
        return {"output": output + 0, "pid": os.getpid()}


class Together(ls.LitAPI):
    """Tells how many shared its batch."""

    def batch(self, inputs):
        return inputs

    def predict(self, x):
        return [len(x)] * len(x)

    def unbatch(self, output):
        return output


class Counting(ls.LitAPI):
    """Counts to `n` in steps that all requests share."""

    def setup(self, device):
        self.left = {}

    def add_request(self, uid, request):
        self.left[uid] = list(range(request["n"]))

    def has_capacity(self):
        return len(self.left) < 2

    def has_active_requests(self):
        return bool(self.left)

    def step(self, previous):
        outputs = []
        for uid, numbers in list(self.left.items()):
            if numbers:
                outputs.append(Output(uid, numbers.pop(0), LitAPIStatus.OK))
            else:
                del self.left[uid]
                outputs.append(Output(uid, "", LitAPIStatus.FINISH_STREAMING))
        return outputs

    def encode_response(self, output):
        return {"output": output}


class Tokens(ls.LitAPI):
    """Predicts one more letter a step."""

    def decode_request(self, request):
        return request["word"]

    def predict(self, inputs, generated):
        return [word[len(done)] for word, done in zip(inputs, generated, strict=True)]

    def has_finished(self, uid, token, max_sequence_length):
        return token == "."


def several():
    return [
        Tenfold(api_path="/tenfold", loop=Cached()),
        Together(api_path="/together", loop=BatchedLoop(), max_batch_size=2, batch_timeout=60),
        Counting(api_path="/counting", loop=ContinuousBatchingLoop(), stream=True),
        Tokens(api_path="/tokens", loop=DefaultContinuousBatchingLoop(), stream=True, max_batch_size=2),
    ]


class Slow(ls.LitAPI):
    """Answers what a test lets it."""

    def __init__(self, gate):
        super().__init__(loop=SingleLoop())
        self.gate = gate
        self.began = []

    def predict(self, x):
        self.began.append(x)
        assert self.gate.wait(60)
        return x


def ask(client, path, *bodies):
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda body: client.post(path, json=body), bodies))
