"""What is decided about an API before its first request, and what is refused."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pydantic
import pytest

from blixt.serve import API, ConfigError, Limits, Pipeline, UploadFile
from blixt.serve.plan import make_plan
from blixt.serve.plan_mode import Mode


class Point(msgspec.Struct):
    x: int


class Order(pydantic.BaseModel):
    item: str


class Typed(API):
    def predict(self, point: Point) -> list[int]:
        return [point.x]


class Plain(API):
    def predict(self, x):
        return x


def test_an_unknown_argument_is_refused_with_what_was_probably_meant():
    with pytest.raises(ConfigError, match=r"Plain knows no 'max_batchsize'; did you mean 'max_batch_size'\?"):
        Plain(max_batchsize=4)
    with pytest.raises(ConfigError, match="known are"):
        Plain(zzz=1)


def test_batch_timeout_is_another_name():
    assert Plain(batch_timeout=0.5).policy().batch_timeout_s == 0.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_batch_size": 0}, "max_batch_size=0 is not a number of at least 1"),
        ({"batch_timeout_s": -1.0}, "batch_timeout_s"),
        ({"api_path": "predict"}, "does not begin with '/'"),
        ({"stream": "yes"}, "not True, False or 'auto'"),
        ({"context_fields": ("heders",)}, "did you mean 'headers'"),
        ({"loop": object()}, "has no method run"),
    ],
)
def test_values_out_of_range_are_refused_in_a_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_plan(Plain(**options))


def test_an_async_setup_is_refused():
    class Late(Plain):
        async def setup(self, device):
            pass

    with pytest.raises(ConfigError, match="setup is async"):
        make_plan(Late())


def test_hooks_decide_the_loop():
    class Gen(API):
        stream = True

        def predict(self, x):
            yield x

    class Session(API):
        async def session(self, socket):
            pass

    assert make_plan(Plain()).mode is Mode.SINGLES
    assert make_plan(Plain(max_batch_size=2)).mode is Mode.BATCHES
    assert make_plan(Gen()).mode is Mode.STREAMS
    assert make_plan(Gen(max_batch_size=2)).mode is Mode.BATCHED_STREAMS
    assert make_plan(Session()).mode is Mode.ASYNC


def test_a_class_without_predict_is_refused():
    with pytest.raises(ConfigError, match="has no predict method"):
        make_plan(API())


def test_hooks_that_were_not_written_are_not_called():
    plan = make_plan(Plain())
    assert plan.decode is None
    assert plan.encode is None
    assert not plan.wants_context


def test_the_context_is_made_only_if_somebody_wants_it():
    class Wants(API):
        def predict(self, x, context):
            return x

    assert make_plan(Wants()).wants_context
    assert not make_plan(Wants()).wants_headers
    assert make_plan(Wants(context_fields=("headers",))).wants_headers


def test_schemas_come_from_annotations():
    plan = make_plan(Typed())
    schema = plan.input_schema()
    assert schema["$defs"]["Point"]["properties"] == {"x": {"type": "integer"}}
    assert plan.output_schema() == {"type": "array", "items": {"type": "integer"}}
    assert plan.input_media == "application/json"
    assert make_plan(Plain()).input_schema() is None


def test_schemas_see_through_hooks_batches_and_streams():
    class Hooked(API):
        max_batch_size = 4

        def decode_request(self, order: Order) -> str:
            return order.item

        def predict(self, items: list[str]) -> list[int]:
            return [len(item) for item in items]

    class Streams(API):
        stream = True

        def predict(self, n: int) -> Iterator[str]:
            yield "x" * n

    class Listed(API):
        max_batch_size = 4

        def predict(self, batch: list[Point]) -> list[float]:
            return [p.x / 2 for p in batch]

    assert make_plan(Hooked()).input_schema()["properties"] == {"item": {"title": "Item", "type": "string"}}
    assert make_plan(Hooked()).output_schema() == {"type": "integer"}
    assert make_plan(Streams()).output_schema() == {"type": "string"}
    assert make_plan(Listed()).output_schema() == {"type": "number"}
    assert "Point" in make_plan(Listed()).input_schema()["$defs"]


def test_a_struct_with_a_file_is_a_multipart_form():
    class Upload(msgspec.Struct):
        title: str
        picture: UploadFile

    class Takes(API):
        def predict(self, form: Upload) -> Any:
            return form.title

    plan = make_plan(Takes())
    assert plan.input_media == "multipart/form-data"
    assert plan.input_schema()["$defs"]["Upload"]["properties"]["picture"] == {
        "type": "string",
        "format": "binary",
    }


def test_arrays_and_bytes_have_schemas_too():
    class Arrays(API):
        def predict(self, x: np.ndarray) -> bytes:
            return x.tobytes()

    plan = make_plan(Arrays())
    assert plan.input_schema() == {"type": "array", "items": {}}
    assert plan.output_schema() == {"type": "string", "format": "binary"}


def test_a_pipeline_reads_as_its_first_stage_and_answers_as_its_last():
    class Last(API):
        def predict(self, x) -> str:
            return str(x)

    plan = make_plan(Pipeline([Typed(), Last()]))
    assert "Point" in plan.input_schema()["$defs"]
    assert plan.output_schema() == {"type": "string"}


@pytest.mark.parametrize(
    ("stages", "options", "sentence"),
    [
        ([Plain()], {}, "at least two stages"),
        ([Plain(), "x"], {}, "is no API"),
        ([Plain(stream=True), Plain()], {}, "only the last stage may"),
        ([Plain(), Plain()], {"workers": [1]}, "workers has 1 entries for 2 stages"),
        ([Plain(), Plain()], {"workers": [1, 0]}, "not counts of at least 1"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(stages, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Pipeline(stages, **options)


def test_limits_may_be_infinite_or_off_where_that_makes_sense():
    assert Limits(timeout_s=float("inf"), max_requests=0).max_requests == 0
    for wrong in ({"timeout_s": 0}, {"max_requests": -1}, {"max_queue": True}, {"timeout_s": "1"}):
        with pytest.raises(ConfigError):
            Limits(**wrong)
