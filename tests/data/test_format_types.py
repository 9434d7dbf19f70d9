"""Every type that the writer knows stands in FORMAT.md, and its reader reads it, in every form of a block."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from blixt.data import Audio, Coded, Graph, Image, Json, Png, Tensor, Tiff, Video  # noqa: E402
from blixt.data.codecs import VARIABLE_TYPES  # noqa: E402
from blixt.data.schema import DTYPES  # noqa: E402

from .every import FORMS, KEY, every, footer_of, open_bytes, shard_bytes  # noqa: E402
from .format_reader import read_shard  # noqa: E402
from .samples import same  # noqa: E402

TEXT = (Path(__file__).parents[2] / "src/blixt/data/FORMAT.md").read_text()
VECTORS = Path(__file__).parent / "vectors"


class Decimal:
    """A codec of a user's own."""

    name = "decimal"

    def encode(self, value: Any) -> bytes:
        return str(value).encode()

    def decode(self, stored: memoryview) -> int:
        return int(bytes(stored))


def others(i: int) -> dict[str, Any]:
    """Fields of the types that `every` leaves out."""
    return {
        "half": torch.full((2,), i, dtype=torch.bfloat16),
        "tensor": Tensor(torch.full((i % 3,), i, dtype=torch.bfloat16)),
        "complex": np.full(2, 1j * i, np.complex64),
        "scalar": np.float16(i),
        "png": Png(b"\x89PNG\r\n\x1a\n" + bytes([i])),
        "tiff": Tiff(b"II*\0" + bytes([i])),
        "picture": Image(b"GIF89a" + bytes([i])),
        "sound": Audio(b"RIFF" + bytes([i])),
        "film": Video(b"film" + bytes([i])),
        "own": Coded(i, Decimal()),
        "graph": Graph({"x": np.full((i % 3, 2), i), "name": "g"}),
        "list": [i, (Json([i]), {"deep": str(i)})],
    }


def plain(value: Any) -> Any:
    """Return a sample as the reader of the specification gives it: bfloat16 as its 16 bits, no tensors."""
    if isinstance(value, torch.Tensor):
        return value.view(torch.uint16).numpy()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("form", FORMS)
def test_every_type_of_column_in_every_form_is_readable_from_the_specification_alone(form: str) -> None:
    shard = shard_bytes([{**every(i), **others(i)} for i in range(50)], **FORMS[form])
    ours = open_bytes(shard, decode=False)
    for row, sample in enumerate(read_shard(shard, KEY)):
        expected = plain(ours.sample(row))
        assert same(sample.pop("graph"), {"x": np.full((row % 3, 2), row), "name": "g"})
        assert sample["ragged"][1] == (("f.txt", b"abc"),)
        del expected["graph"], expected["ragged"], sample["ragged"]
        assert same(expected, sample)


def test_the_specification_names_every_type_and_dtype_that_the_writer_knows() -> None:
    table = re.findall(r"^\| `(fixed|variable|stream)` \| ([^|]+) \|", TEXT, re.MULTILINE)
    named = {(kind, name) for kind, cell in table for name in re.findall(r"`([^`]+)`", cell)}
    assert named == {
        *(("fixed", name) for name in ("int", "float", "bool", "array", "tensor")),
        *(("variable", name) for name in (*VARIABLE_TYPES, "user:NAME")),
        ("stream", "tokens"),
    }
    [dtypes] = re.findall(r"^`dtype` is one of `([^`]+)`", TEXT, re.MULTILINE)
    assert set(dtypes.split()) == DTYPES


def keys_of(value: Any) -> set[str]:
    """Return the keys of JSON objects, but for those whose keys are names of the user's."""
    if isinstance(value, list):
        return set[str]().union(*map(keys_of, value))
    if not isinstance(value, dict):
        return set()
    own = {key: one for key, one in value.items() if key not in ("structure", "stats", "tokens")}
    return set(own).union(*map(keys_of, own.values()))


def test_the_specification_names_every_key_that_the_writer_writes() -> None:
    written = set[str]()
    for form in FORMS.values():
        written |= keys_of(footer_of(shard_bytes([every(i) for i in range(9)], **form)))
    for path in (*VECTORS.glob("*/versions/*.json"), *VECTORS.glob("*/index.json")):
        written |= keys_of(json.loads(path.read_text()))
    unnamed = {key for key in written if f"`{key}`" not in TEXT and f'"{key}"' not in TEXT}
    assert unnamed == set()
