"""Files that the first writer of format 1.0 wrote are read by blixt and by the specification's reader."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import Dataset, DecryptionError, StoredFile, verify
from blixt.data.crypto import Cipher
from blixt.data.key_index import open_keys
from blixt.data.snapshot import load

from .format_reader import read_dataset, read_snapshot
from .format_tables import read_index, read_keys

HERE = Path(__file__).parent / "vectors"
KEY = bytes(range(32))
EXPECTED = json.loads((HERE / "expected.json").read_text())


def plain(value: Any) -> Any:
    """Return a sample as JSON says it."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, StoredFile):
        return [value.name, list(value.data)]
    if isinstance(value, tuple) and len(value) == 1:
        return plain(value[0])
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return (
        list(value)
        if isinstance(value, bytes)
        else value.tolist()
        if isinstance(value, np.ndarray)
        else value
    )


@pytest.mark.parametrize("form", ["plain", "compressed", "encrypted", "both"])
def test_the_vectors_are_read(form: str) -> None:
    assert [plain(sample) for sample in Dataset(HERE / form, key=KEY)[:]] == EXPECTED
    assert [plain(sample) for sample in read_dataset(HERE / form, KEY)] == EXPECTED
    assert verify(HERE / form, key=KEY).problems == []


def test_the_keys_of_the_vectors_are_found() -> None:
    keys = open_keys(HERE / "plain", load(HERE / "plain"))
    assert keys is not None
    assert [keys.find(sample["text"]) for sample in EXPECTED] == list(range(7))
    first, second = (shard["file"] for shard in read_snapshot(HERE / "plain")["shards"])
    places = [*((first, row) for row in range(4)), *((second, row) for row in range(3))]
    assert read_keys(HERE / "plain") == {
        b"s" + sample["text"].encode(): place for sample, place in zip(EXPECTED, places, strict=True)
    }


@pytest.mark.parametrize("form", ["plain", "compressed", "encrypted", "both"])
def test_the_compact_index_of_the_vectors_says_what_the_snapshot_says(form: str) -> None:
    snapshot = read_snapshot(HERE / form)
    del snapshot["commit"]
    assert read_index(HERE / form) == snapshot


def test_the_reader_of_the_specification_is_of_a_hundred_lines_and_shares_no_code() -> None:
    source = (Path(__file__).parent / "format_reader.py").read_text()
    assert len([line for line in source.splitlines()[1:] if line.strip()]) <= 100
    assert "import blixt" not in source
    assert "from blixt" not in source


def test_the_encrypted_vectors_need_their_key() -> None:
    with pytest.raises(DecryptionError, match="encrypted with key 'vector'; pass key="):
        Dataset(HERE / "encrypted")[0]


def test_the_sealed_block_of_the_specification_holds() -> None:
    text = (Path(__file__).parents[2] / "src/blixt/data/FORMAT.md").read_text()
    cipher = Cipher(KEY, b"\xa5" * 32)
    assert f"`{cipher.check}`" in text
    assert f"`{cipher.seal(b'hi', 2, 0, 0).hex(' ')}`" in text
