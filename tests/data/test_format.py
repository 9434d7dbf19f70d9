"""The bytes on disk are what FORMAT.md says, and damage to any of them is noticed."""

import json
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from blixt.data import (
    CorruptionError,
    DataError,
    DatasetNotFoundError,
    File,
    FormatError,
    Graph,
    Jpeg,
    Json,
    Ragged,
    ShardReader,
    ShardWriter,
    Tokens,
    info,
    statistics,
)
from blixt.data.shard.blocks import DecodedCache

from .every import FORMS, every, footer_of, open_bytes, shard_bytes, with_footer
from .format_reader import read_dataset, read_shard
from .samples import mixed, same, write_dataset

DTYPES = st.sampled_from(["int8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool"])


@st.composite
def columns(draw: Any) -> Any:
    """A strategy for one field: given the field's type, values of that type."""
    dtype = draw(DTYPES)
    shape = draw(npst.array_shapes(min_dims=0, max_dims=3, max_side=3))
    return draw(
        st.sampled_from(
            [
                st.integers(-(2**63), 2**63 - 1),
                st.floats(),
                st.booleans(),
                st.text(max_size=20),
                st.binary(max_size=20),
                npst.arrays(dtype, shape).map(lambda array: array if array.shape else array[()]),
                npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0, max_side=4)).map(Ragged),
                st.lists(st.integers(0, 65535), max_size=9).map(lambda ids: Tokens(ids, "uint16")),
            ]
        )
    )


@st.composite
def sample_lists(draw: Any) -> list[Any]:
    fields = draw(st.dictionaries(st.text("abc_", min_size=1), columns(), min_size=1, max_size=4))
    nested = st.fixed_dictionaries(
        {"flat": st.fixed_dictionaries(fields), "pair": st.tuples(*fields.values())}
    )
    return draw(st.lists(nested, min_size=1, max_size=6))


@given(sample_lists())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back_by_blixt_and_by_a_reader_of_the_specification(
    samples: list[Any],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.shard"
        with ShardWriter(path) as writer:
            for sample in samples:
                writer.write(sample)
        reader = ShardReader(path)
        assert all(same(sample, reader.sample(row)) for row, sample in enumerate(samples))
        assert all(map(same, samples, read_shard(path.read_bytes())))


def test_a_dataset_of_many_shards_is_readable_from_the_specification_alone(tmp_path: Path) -> None:
    samples = [mixed(i) for i in range(300)]
    write_dataset(tmp_path, samples, chunk_bytes=5000)
    assert len(list((tmp_path / "shards").iterdir())) > 3
    assert all(map(same, samples, read_dataset(tmp_path)))


def test_the_test_vector_of_the_specification_holds(tmp_path: Path) -> None:
    path = tmp_path / "vector.shard"
    with ShardWriter(path, dataset_id=UUID(int=0)) as writer:
        writer.write({"n": 7, "s": "hi"})
    data = path.read_bytes()
    assert data[:64] == b"BLXSHARD\1\0\0\0" + bytes(48) + struct.pack("<I", crc32c.crc32c(data[:60]))
    assert data[64:66] == b"hi"
    assert data[128:136] == (7).to_bytes(8, "little")
    assert data[192:208] == struct.pack("<QQ", 0, 2)
    assert data[256:288] == struct.pack("<QQQII", 0, 2, 2, 0xF59DD9C2, 0)
    assert data[320:321] == b"{"
    crcs = [s["crc32c"] for s in json.loads(data[320:-20])["sections"]]
    assert crcs == [[], [0x7671B78E], [0xD00860A4], [crc32c.crc32c(data[256:288])]]


def test_graphs_files_and_arrays_of_any_kind_are_readable_from_the_specification_alone(
    tmp_path: Path,
) -> None:
    graph = {"x": np.ones((3, 2), np.float32), "edges": np.array([[0, 1], [1, 2]]), "none": np.zeros((0, 4))}
    sample = {
        "graph": Graph({**graph, "name": "g"}),
        "file": File(b"abc", name="f.txt"),
        "empty": Ragged(np.zeros((2, 0, 3), np.complex64)),
        "json": Json({"é": [None, 1.5]}),
        "jpeg": Jpeg(b"\xff\xd8..."),
        "scalar": Ragged(np.float16(1.5)),
    }
    write_dataset(tmp_path, [sample, sample])
    found, again = read_dataset(tmp_path)
    assert same(found, again)
    assert same(found["graph"], {**graph, "name": "g"})
    assert found["file"] == ("f.txt", b"abc")
    assert same(sample["empty"], found["empty"])
    assert (found["json"], found["jpeg"], found["scalar"]) == ({"é": [None, 1.5]}, b"\xff\xd8...", 1.5)


def test_the_heap_is_cut_into_blocks_of_whole_rows(tmp_path: Path) -> None:
    samples = [{"raw": bytes([i]) * 300_000, "text": str(i)} for i in range(10)]
    write_dataset(tmp_path, samples)
    assert all(map(same, samples, read_dataset(tmp_path)))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("shard") / "a.shard"
    with ShardWriter(path) as writer:
        for i in range(40):
            writer.write(mixed(i))
    return path.read_bytes()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_flipped_byte_is_noticed(shard: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(shard) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = bytearray(shard)
    damaged[position] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.shard"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.shard"):
            ShardReader(path).verify()


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_a_file_that_was_cut_short_says_so(shard: bytes, part: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.shard"
        path.write_bytes(shard[: int(len(shard) * part)])
        with pytest.raises(FormatError, match=r"cut short|is empty|not a blixt shard"):
            ShardReader(path)


def test_reading_a_damaged_block_names_shard_block_and_byte_range(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path) as writer:
        for _ in range(4):
            writer.write({"x": np.zeros(1 << 17, np.float32), "text": "hello"})
    data = bytearray(path.read_bytes())
    data[1_200_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        CorruptionError, match=r"a\.shard: block 2 of values of 'x' is damaged, bytes 1048704 to 1572992"
    ):
        ShardReader(path).sample(2)


def test_only_the_damaged_rows_fail_to_read(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path) as writer:
        for i in range(4):
            writer.write({"raw": bytes([i]) * (1 << 20)})
    data = bytearray(path.read_bytes())
    data[64 + (2 << 20) + 5] ^= 255
    path.write_bytes(data)
    reader = ShardReader(path)
    assert reader.sample(1)["raw"] == b"\1" * (1 << 20)
    with pytest.raises(CorruptionError, match="block 2 of heap"):
        reader.sample(2)
    assert reader.sample(3)["raw"] == b"\3" * (1 << 20)


def test_checking_can_be_switched_off(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path) as writer:
        writer.write({"x": 1})
    data = bytearray(path.read_bytes())
    data[64] = 9
    path.write_bytes(data)
    assert ShardReader(path, check=False).sample(0) == {"x": 9}


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    path.write_bytes(b"PK\3\4" + bytes(200))
    with pytest.raises(FormatError, match="not a blixt shard"):
        ShardReader(path)


def test_another_major_version_is_refused(tmp_path: Path, shard: bytes) -> None:
    head = bytearray(shard[:60])
    head[8] = 2
    path = tmp_path / "a.shard"
    path.write_bytes(bytes(head) + crc32c.crc32c(bytes(head)).to_bytes(4, "little") + shard[64:])
    with pytest.raises(FormatError, match=r"version 2.*upgrade blixt"):
        ShardReader(path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"gone\.shard is missing"):
        ShardReader(tmp_path / "gone.shard")


def test_a_newer_minor_version_is_read_and_what_it_adds_is_ignored(tmp_path: Path) -> None:
    data = shard_bytes([{"n": 7, "s": "hi"}])
    footer = footer_of(data)
    extra = {"role": "bloom_filter", "column": "s", "offset": 64, "size": 2, "block_bytes": 64, "crc32c": [1]}
    footer |= {"format_version": [1, 9], "licence": "free", "sections": [*footer["sections"], extra]}
    footer["columns"][0]["unit"] = "m"
    assert open_bytes(with_footer(data, footer)).sample(0) == {"n": 7, "s": "hi"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(format_version=[2, 0]), "version 2, this blixt reads version 1; upgrade blixt"),
        (lambda f: f["columns"][1].update(type="hologram"), "type 'hologram'.* does not know"),
        (lambda f: f["columns"][0].update(dtype="int128"), "dtype 'int128'.* does not know"),
        (lambda f: f["sections"][1].update(codecs=[4], sizes=[8], raw_size=8), "has codec 4.*upgrade blixt"),
    ],
)
def test_what_this_version_cannot_read_is_refused_by_name(change: Any, message: str) -> None:
    data = shard_bytes([{"n": 7, "s": "hi"}])
    footer = footer_of(data)
    change(footer)
    with pytest.raises(FormatError, match=message):
        open_bytes(with_footer(data, footer))


def test_what_the_columns_hold_is_counted_in_the_footer(tmp_path: Path) -> None:
    write_dataset(tmp_path, [mixed(i) for i in range(1, 60)], chunk_bytes=3000)
    found = statistics(tmp_path)
    assert found["id"] == {"bytes": 59 * 8, "min": 1, "max": 59}
    assert found["tokens"]["max"] == 2
    assert found["text"] == {
        "bytes": 16 * sum(i % 5 for i in range(1, 60)) // 4,
        "min_bytes": 0,
        "max_bytes": 16,
    }
    assert info(tmp_path)["column_bytes"]["id"] == 59 * 8


def test_many_threads_may_read_one_shard() -> None:
    samples = [every(i % 200) for i in range(400)]
    for form in FORMS.values():
        reader = open_bytes(shard_bytes(samples, **form), cache=DecodedCache(1 << 16))
        expected = [reader.sample(row)["text"] for row in range(400)]
        reader = open_bytes(shard_bytes(samples, **form), cache=DecodedCache(1 << 16))
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda row, one=reader: one.sample(row)["text"], range(400)))
        assert found == expected
