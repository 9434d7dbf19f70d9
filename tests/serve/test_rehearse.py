"""Examples in process: the dry run."""

import asyncio
import io

import numpy as np

from blixt.serve import API, Pipeline, dry_run
from blixt.serve.tryout import describe

from .worker_apis import Label, Resize, Sum, Warm


def run(*apis):
    out = io.StringIO()
    return dry_run(apis, "cpu", out=out), out.getvalue()


def test_a_dry_run_tells_what_every_hook_made_and_how_long_it_took():
    class Classify(API):
        def examples(self):
            return [[1, 2, 3]]

        def decode_request(self, request: list[float]) -> np.ndarray:
            return np.array(request)

        def predict(self, x):
            return x * 2

        def encode_response(self, output):
            return {"scores": output}

    code, text = run(Classify())
    assert code == 0
    assert "Classify.setup" in text
    assert "decode_request(list[3] of float) -> float64[3]" in text
    assert "predict(float64[3]) -> float64[3]" in text
    assert "encode_response(float64[3]) -> dict(scores)" in text
    assert "example 0: OK, 24 bytes" in text
    assert " ms" in text


def test_a_dry_run_fails_with_the_example_and_goes_on_to_the_next_api():
    code, text = run(Warm(bad=True), Warm())
    assert code == 1
    assert "Warm answered its example 0 with 500" in text
    assert "example 2: OK" in text


def test_a_dry_run_reports_a_setup_that_fails():
    class NoWeights(Warm):
        def setup(self, device):
            raise FileNotFoundError("weights.bin")

    code, text = run(NoWeights())
    assert code == 1
    assert "failed: FileNotFoundError: weights.bin" in text


def test_async_streaming_and_batched_apis_can_be_tried_too():
    class Later(API):
        stream = True

        def examples(self):
            return [3]

        async def predict(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

    code, text = run(Later(), Warm(max_batch_size=2))
    assert code == 0
    assert "example 0: END, 3 pieces" in text
    assert "predict(list[2] of int) -> list[2] of list" in text


def test_the_stages_of_a_pipeline_are_tried_one_after_the_other():
    class First(Resize):
        def examples(self):
            return [4]

    code, text = run(Pipeline([First(), Sum(), Label()]))
    assert code == 0
    assert "predict(int) -> dict(pid, array)" in text
    assert "dict(warmed, pids, sum, batch, label)" in text


def test_an_api_without_examples_is_told_how_to_have_some():
    class Silent(API):
        def predict(self, x):
            return x

    code, text = run(Silent())
    assert code == 0
    assert "write `examples()`" in text


def test_values_are_described_by_type_and_shape():
    assert describe(np.zeros((2, 3), np.uint8)) == "uint8[2,3]"
    assert describe([]) == "list[0]"
    assert describe("abc") == "str[3]"
    assert describe(3.0) == "float"
