"""Encrypted datasets: nothing is readable without the key, and no block can be moved or altered."""

import os
import struct
from pathlib import Path
from typing import Any

import crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import (
    CorruptionError,
    DataError,
    Dataset,
    DatasetWriter,
    DecryptionError,
    Encryption,
    ShardReader,
    ShardWriter,
    delete,
    index_keys,
    update,
    verify,
)
from blixt.data.key_index import open_keys
from blixt.data.snapshot import load

from .every import FORMS, KEY, every, footer_of, open_bytes, shard_bytes, with_footer
from .samples import same


@pytest.mark.parametrize("form", FORMS)
def test_samples_of_every_type_are_read_back(form: str) -> None:
    samples = [every(i) for i in range(30)]
    reader = open_bytes(shard_bytes(samples, **FORMS[form]))
    plain = open_bytes(shard_bytes(samples))
    assert all(same(plain.sample(row), reader.sample(row)) for row in range(30))
    assert list(reader.problems()) == []


@given(rows=st.lists(st.integers(0, 29), min_size=1, max_size=40))
@settings(max_examples=20, deadline=None)
def test_batches_are_the_same_in_every_form(rows: list[int]) -> None:
    import numpy as np

    samples = [every(i) for i in range(30)]
    whole = {name: open_bytes(shard_bytes(samples, **options)) for name, options in FORMS.items()}
    expected = whole["plain"].batch(np.array(rows))
    for reader in whole.values():
        found = reader.batch(np.array(rows))
        assert all(same(one, found[name]) for name, one in expected.items())


def test_compression_is_kept_only_where_it_saves_more_than_five_percent() -> None:
    def codecs(content: bytes) -> int:
        data = shard_bytes([{"raw": content}], compress="zstd")
        table = next(one for one in footer_of(data)["sections"] if one["role"] == "heap_blocks")
        return struct.unpack_from("<I", data, table["offset"] + 28)[0]

    noise = os.urandom(100_000)
    assert codecs(bytes(100_000)) == 1
    assert codecs(noise) == 0
    assert codecs(noise[:97_000] + bytes(3_000)) == 0
    assert codecs(noise[:90_000] + bytes(10_000)) == 1


@pytest.mark.parametrize("compress", ["gzip", "zstd:0", "zstd:23", "zstd:", ""])
def test_a_compression_that_does_not_exist_is_refused(tmp_path: Path, compress: str) -> None:
    with pytest.raises(ValueError, match="compress must be None, 'zstd' or"):
        ShardWriter(tmp_path / "a.shard", compress=compress)


def test_nothing_of_the_content_or_the_key_is_in_the_files(tmp_path: Path) -> None:
    secret = "the most secret of all texts"
    with DatasetWriter(tmp_path, encrypt=Encryption(KEY, "k1")) as writer:
        writer.write({"text": secret, "n": 0x1122334455667788})
    index_keys(tmp_path, "text", encrypt=Encryption(KEY, "k1"))
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for hidden in (
        secret.encode(),
        secret[:8].encode(),
        KEY,
        KEY.hex().encode(),
        b"\x88\x77\x66\x55\x44\x33\x22\x11",
    ):
        assert hidden not in everything


def test_a_key_is_asked_for_by_its_id_and_never_stored(tmp_path: Path) -> None:
    asked: list[str] = []

    def vault(key_id: str) -> bytes:
        asked.append(key_id)
        return KEY

    with DatasetWriter(tmp_path, encrypt=Encryption(vault, "team/7")) as writer:
        writer.write({"x": 1})
    dataset = Dataset(tmp_path, key=vault)
    assert dataset[0] == {"x": 1}
    assert set(asked) == {"team/7"}
    assert "key" not in repr(Encryption(KEY, "team/7")).replace("key_id", "")


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (None, DecryptionError, "encrypted with key 'k1'; pass key="),
        (bytes(32), DecryptionError, "another key than the one given for 'k1'"),
        (b"short", DataError, "must be at least 16 bytes"),
        (lambda key_id: None, DataError, "must be at least 16 bytes.*got NoneType"),
    ],
)
def test_a_wrong_key_is_noticed_when_the_shard_is_opened(
    tmp_path: Path, key: Any, error: Any, message: str
) -> None:
    path = tmp_path / "a.shard"
    path.write_bytes(shard_bytes([every(1)], **FORMS["encrypted"]))
    with pytest.raises(error, match=message):
        ShardReader(path, key=key)


def test_a_block_put_in_the_place_of_another_is_noticed() -> None:
    data = shard_bytes([{"a": 1, "b": 2}], **FORMS["encrypted"])
    footer = footer_of(data)
    first, second = (one for one in footer["sections"] if one["role"] == "values")
    assert first["size"] == second["size"]
    swapped = bytearray(data)
    for to, source in ((first, second), (second, first)):
        swapped[to["offset"] : to["offset"] + 24] = data[source["offset"] : source["offset"] + 24]
    first["crc32c"], second["crc32c"] = second["crc32c"], first["crc32c"]
    with pytest.raises(DecryptionError, match=r"block 0 of values of 'a' .*: its content was not sealed"):
        open_bytes(with_footer(bytes(swapped), footer)).sample(0)


def test_a_block_altered_with_its_checksum_made_right_is_noticed() -> None:
    data = bytearray(shard_bytes([{"a": 1}], **FORMS["encrypted"]))
    footer = footer_of(bytes(data))
    section = footer["sections"][0]
    start, end = section["offset"], section["offset"] + section["size"]
    data[start] ^= 1
    section["crc32c"] = [crc32c.crc32c(bytes(data[start:end]))]
    with pytest.raises(DecryptionError, match="was not sealed with this key"):
        open_bytes(with_footer(bytes(data), footer)).sample(0)
    section["codecs"] = [3]
    with pytest.raises(DataError, match="damaged"):
        open_bytes(with_footer(bytes(data), footer)).sample(0)


def test_two_shards_of_the_same_samples_share_no_sealed_byte_run() -> None:
    one, two = (shard_bytes([{"raw": bytes(4096)}], **FORMS["encrypted"]) for _ in range(2))
    assert one[64:4160] != two[64:4160]
    assert footer_of(one)["encryption"]["salt"] != footer_of(two)["encryption"]["salt"]


def test_encrypted_datasets_have_keys_updates_and_deletes(tmp_path: Path) -> None:
    how = Encryption(KEY, "k1")
    with DatasetWriter(tmp_path, encrypt=how) as writer:
        for i in range(4):
            writer.write(every(i))
    index_keys(tmp_path, "id", encrypt=how)
    update(tmp_path, {2: {**every(2), "text": "new"}}, encrypt=how)
    delete(tmp_path, keys=[0], encrypt=how)
    keys = open_keys(tmp_path, load(tmp_path), KEY)
    assert keys is not None
    dataset = Dataset(tmp_path, key=KEY, decode=False)
    assert dataset[keys.find(2)]["text"] == "new"
    assert [one["id"] for one in dataset[:]] == [1, 2, 3]
    assert verify(tmp_path, key=KEY).problems == []
    with pytest.raises((DecryptionError, CorruptionError), match="encrypted"):
        open_keys(tmp_path, load(tmp_path)).find(2)  # type: ignore[union-attr]
