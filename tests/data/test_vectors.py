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

from .format_reader import read_dataset

HERE = Path(__file__).parent / "vectors"
KEY = bytes(range(32))
EXPECTED = json.loads((HERE / "expected.json").read_text())


def plain(value: Any) -> Any:
    """Return a sample as JSON says it."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return plain(value[0]) if isinstance(value, tuple) else [plain(one) for one in value]
    if isinstance(value, StoredFile):
        return [value.name, list(value.data)]
    return (
        list(value)
        if isinstance(value, bytes)
        else value.tolist()
        if isinstance(value, np.ndarray)
        else value
    )


def files_read(sample: dict[str, Any]) -> dict[str, Any]:
    """The reader of the specification leaves files as they are stored: u32 length, name, content."""
    ragged, (stored,) = sample["ragged"]
    size = int.from_bytes(stored[:4], "little")
    file = StoredFile(stored[4 : 4 + size].decode(), stored[4 + size :])
    return {**sample, "ragged": [ragged, (file,)]}


@pytest.mark.parametrize("form", ["plain", "compressed", "encrypted", "both"])
def test_the_vectors_are_read(form: str) -> None:
    assert [plain(sample) for sample in Dataset(HERE / form, key=KEY)[:]] == EXPECTED
    assert [plain(files_read(sample)) for sample in read_dataset(HERE / form, KEY)] == EXPECTED
    assert verify(HERE / form, key=KEY).problems == []


def test_the_keys_of_the_vectors_are_found() -> None:
    keys = open_keys(HERE / "plain", load(HERE / "plain"))
    assert keys is not None
    assert [keys.find(sample["text"]) for sample in EXPECTED] == list(range(7))


def test_the_encrypted_vectors_need_their_key() -> None:
    with pytest.raises(DecryptionError, match="encrypted with key 'vector'; pass key="):
        Dataset(HERE / "encrypted")[0]


def test_the_sealed_block_of_the_specification_holds() -> None:
    text = (Path(__file__).parents[2] / "src/blixt/data/FORMAT.md").read_text()
    cipher = Cipher(KEY, b"\xa5" * 32)
    assert f"`{cipher.check}`" in text
    assert f"`{cipher.seal(b'hi', 2, 0, 0).hex(' ')}`" in text
