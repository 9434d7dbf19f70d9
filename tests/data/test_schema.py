"""Columns are inferred from the first sample; a later sample that differs is named with its field."""

from typing import Any

import numpy as np
import pytest

from blixt.data import Ragged, SchemaError, Tokens
from blixt.data.encode import compile_encoder
from blixt.data.schema import Schema, infer


def describe(sample: Any) -> dict[str, str]:
    return {column.name: column.describe() for column in infer(sample).columns}


def test_each_python_type_has_its_column() -> None:
    assert describe(
        {
            "i": 1,
            "f": 1.0,
            "b": True,
            "s": "x",
            "raw": b"x",
            "a": np.zeros((2, 3), np.uint8),
            "r": Ragged(np.zeros(3)),
            "t": Tokens([1], "uint16"),
            "nested": [np.float32(1), ("x",)],
        }
    ) == {
        "i": "int",
        "f": "float",
        "b": "bool",
        "s": "utf8",
        "raw": "bytes",
        "a": "uint8[2, 3]",
        "r": "float64[varying]",
        "t": "tokens of uint16",
        "nested.0": "float32[]",
        "nested.1.0": "utf8",
    }


def test_a_bare_integer_array_is_a_token_stream() -> None:
    assert describe(np.zeros(3, np.uint16)) == {"value": "tokens of uint16"}


def test_a_schema_survives_json() -> None:
    schema = infer({"a": (np.zeros(2), "x"), "t": Tokens([1])})
    assert Schema.from_json(schema.to_json()) == schema


def test_tensors_have_a_type_of_their_own() -> None:
    torch = pytest.importorskip("torch")
    assert describe({"x": torch.zeros(2, 2)}) == {"x": "tensor of float32[2, 2]"}


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"a": {"b": object()}}, r"field 'a\.b': cannot store a object"),
        ({"a": None}, "field 'a': cannot store a NoneType"),
        ({1: 2}, "dict keys must be strings, got 1"),
        ({}, "is empty"),
        ({"a.b": 1, "a": {"b": 2}}, r"share the path 'a\.b'"),
        ({"a": np.array(["x"])}, "cannot store an array of dtype <U1"),
        ({"a": Tokens([[1]])}, "1-D"),
    ],
)
def test_what_cannot_be_stored_is_named(sample: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        infer(sample)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"a": 1}, {"a": "x"}, "sample 1, field 'a': expected int, got str"),
        ({"a": 1}, {"a": True}, "sample 1, field 'a': expected int, got bool"),
        ({"a": 1.0}, {"a": 1}, "sample 1, field 'a': expected float, got int"),
        ({"a": 1}, {"a": 2**63}, "sample 1, field 'a'"),
        ({"a": "x"}, {"a": b"x"}, "sample 1, field 'a': expected str, got bytes"),
        ({"a": 1}, {"b": 1}, r"the sample should be a dict with keys \['a'\], got keys \['b'\]"),
        ({"a": {"b": 1}}, {"a": 3}, "field 'a' should be a dict"),
        ({"a": [1, 2]}, {"a": [1]}, "field 'a' should be a list of 2, got a list of 1"),
        ({"a": np.zeros(2)}, {"a": np.zeros(3)}, r"expected float64\[2\], got float64\[3\]; wrap"),
        ({"a": np.zeros(2)}, {"a": np.zeros(2, int)}, r"expected float64\[2\], got int64\[2\]"),
        ({"a": Ragged(np.zeros(2))}, {"a": np.zeros(2, int)}, r"expected float64\[varying\], got int64\[2\]"),
        ({"a": Tokens([1], "uint16")}, {"a": Tokens([70000])}, "token ids 70000..70000 do not fit uint16"),
    ],
)
def test_a_later_sample_that_differs_is_named_with_its_field(first: Any, second: Any, message: str) -> None:
    encode = compile_encoder(infer(first))
    encode(first, "sample 0")
    with pytest.raises(SchemaError, match=message):
        encode(second, "sample 1")
