"""Files made to harm: absurd lengths, bombs, endless nesting are refused in plain words and little memory."""

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import (
    Array,
    CorruptionError,
    DataError,
    Dataset,
    FormatError,
    Jpeg,
    Json,
    ShardReader,
    Tokens,
)
from blixt.data.codecs import codec_for
from blixt.data.index import encode_index
from blixt.data.key_segment import Entries, write_segment
from blixt.data.keys import Keys
from blixt.data.manifest import KeysInfo
from blixt.data.shard.table import ShardTable
from blixt.data.snapshot import load

from .every import every, footer_of, open_bytes, shard_bytes, with_footer, with_section
from .samples import write_dataset

LIMIT_BYTES = 64 << 20
SHARD = shard_bytes([every(i) for i in range(4)])
PACKED = shard_bytes([every(i) for i in range(4)], compress="zstd")
VARIABLE = sum(column["kind"] == "variable" for column in footer_of(SHARD)["columns"])


def read(data: bytes, decode: Any = False) -> list[Any]:
    """Read every row, both ways, and check the file; the memory it takes is bounded."""
    tracemalloc.start()
    try:
        reader = open_bytes(data, decode=decode)
        rows = np.arange(min(reader.rows, 100))
        reader.ranges(rows)
        reader.batch(rows)
        list(reader.problems())
        return [reader.sample(row) for row in rows.tolist()]
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < LIMIT_BYTES


def section(footer: Any, role: str, column: str | None = None) -> Any:
    return next(
        one
        for one in footer["sections"]
        if one["role"] == role and (column is None or one["column"] == column)
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update(rows=2**60),
        lambda f: f.update(rows=-1),
        lambda f: f.update(rows="4"),
        lambda f: f.update(sections=[]),
        lambda f: f.update(sections=None),
        lambda f: f.update(format_version=[2, 0]),
        lambda f: f.update(format_version=[]),
        lambda f: f.update(dataset_id="x"),
        lambda f: f.update(columns=f["columns"] * 2),
        lambda f: f.update(encryption={"key_id": "", "salt": "zz", "check": ""}),
        lambda f: f["columns"][0].update(dtype="object"),
        lambda f: f["columns"][0].update(dtype="bfloat16"),
        lambda f: f["columns"][0].update(shape=[2**39, 2**39]),
        lambda f: f["columns"][0].update(shape=[-1]),
        lambda f: f["columns"][0].update(kind="variable"),
        lambda f: f["columns"][0].update(type="new"),
        lambda f: f.update(structure={"leaf": "nothing"}),
        lambda f: f.update(structure={"dict": [1]}),
        lambda f: f.update(structure={"other": []}),
        lambda f: section(f, "heap").update(size=2**50),
        lambda f: section(f, "heap").update(offset=-64),
        lambda f: section(f, "heap").update(crc32c=[0]),
        lambda f: section(f, "heap_blocks").update(size=0, crc32c=[]),
        lambda f: section(f, "values").update(raw_size=2**60, block_bytes=2**60, sizes=[32], codecs=[1]),
        lambda f: section(f, "values").update(block_bytes=3),
        lambda f: section(f, "values").update(crc32c=[1] * 50),
        lambda f: section(f, "values").update(codecs=[9], sizes=[32], raw_size=32),
        lambda f: section(f, "heap_offsets").update(block_bytes=12),
    ],
)
def test_a_footer_that_cannot_be_true_is_refused(change: Any) -> None:
    footer = footer_of(SHARD)
    change(footer)
    with pytest.raises(DataError, match=r"shard |column|structure"):
        read(with_footer(SHARD, footer))


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_whatever_a_footer_says_it_is_read_or_refused(data: st.DataObject) -> None:
    footer = footer_of(data.draw(st.sampled_from([SHARD, PACKED])))
    node: Any = footer
    for _ in range(data.draw(st.integers(0, 4))):
        child = data.draw(st.sampled_from(sorted(node))) if isinstance(node, dict) and node else None
        child = data.draw(st.integers(0, len(node) - 1)) if isinstance(node, list) and node else child
        if child is None or not isinstance(node[child], (dict, list)) or not node[child]:
            break
        node = node[child]
    key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    value = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]))
    node[key] = data.draw(st.one_of(value, st.lists(value, max_size=3), st.just({"dict": {}})))
    try:
        read(with_footer(SHARD, footer))
    except DataError:
        pass


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_whatever_a_section_says_it_is_read_or_refused(data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(["heap", "heap_blocks", "heap_offsets", "documents", "values"]))
    new = data.draw(st.one_of(st.binary(min_size=1, max_size=9), st.integers(0, 2**64 - 1).map(_u64)))
    place = data.draw(st.floats(0, 1))

    def change(content: bytearray) -> None:
        start = int(place * (len(content) - 1)) // 8 * 8
        piece = new[: len(content) - start]
        content[start : start + len(piece)] = piece

    try:
        read(with_section(SHARD, role, change), decode={"image": False})
    except DataError:
        pass


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


@pytest.mark.parametrize(
    "footer", [b"[" * 200_000, b'{"a":' * 100_000, b"", b"7", b"null", b"\xff", b"9" * 5000]
)
def test_a_footer_that_is_no_footer_is_refused(footer: bytes) -> None:
    with pytest.raises(FormatError, match="makes no sense"):
        read(with_footer(SHARD, footer))


def test_a_deeply_nested_structure_is_refused() -> None:
    footer = footer_of(SHARD)
    deep: Any = {"leaf": "id"}
    for _ in range(300):
        deep = {"list": [deep]}
    with pytest.raises(FormatError, match="structure"):
        read(with_footer(SHARD, footer | {"structure": deep}))


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<QQQII", 0, 2**60, 10, 0, 1),
        struct.pack("<QQQII", 0, 2**63, 10, 0, 0),
        struct.pack("<QQQII", 5, 10, 10, 0, 0),
        struct.pack("<QQQII", 0, 0, 0, 0, 0),
        struct.pack("<QQQII", 0, 10, 10, 0, 77),
    ],
)
def test_a_block_table_that_cannot_be_true_is_refused(entry: bytes) -> None:
    def change(table: bytearray) -> None:
        table[:] = entry

    with pytest.raises(FormatError, match="its heap makes no sense"):
        read(with_section(SHARD, "heap_blocks", change))


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 10**6, 1])
@pytest.mark.parametrize("place", [0, 3, VARIABLE * 4])
def test_an_offset_that_leads_elsewhere_is_noticed(value: int, place: int) -> None:
    def change(table: bytearray) -> None:
        struct.pack_into("<Q", table, 8 * place, value)

    damaged = with_section(SHARD, "heap_offsets", change)
    assert any("offsets" in str(problem) for problem in open_bytes(damaged).problems())


@pytest.mark.parametrize("value", [2**64 - 1, 10**6])
def test_a_document_that_lies_outside_of_its_stream_is_noticed(value: int) -> None:
    def change(table: bytearray) -> None:
        struct.pack_into("<Q", table, 16, value)

    with pytest.raises(CorruptionError, match="lies outside of it"):
        read(with_section(SHARD, "documents", change))


def packed_block(content: bytes, raw: int) -> bytes:
    """Return a shard whose heap is one zstd block of this content that claims `raw` bytes."""
    shard = shard_bytes([{"raw": b"x" * 100_000}], compress="zstd")
    footer = footer_of(shard)
    heap, table = section(footer, "heap"), section(footer, "heap_blocks")
    prefix = shard[: heap["offset"]] + content
    prefix += bytes(-len(prefix) % 64)
    rest = shard[heap["offset"] + heap["size"] + -(heap["offset"] + heap["size"]) % 64 :]
    moved = len(prefix) - (len(shard) - len(rest))
    entry = struct.pack("<QQQII", 0, raw, len(content), crc32c.crc32c(content), 1)
    for one in footer["sections"]:
        one["offset"] += moved if one["role"] != "heap" else 0
    heap.update(size=len(content), raw_size=raw)
    table["crc32c"] = [crc32c.crc32c(entry)]
    whole = bytearray(prefix + rest)
    whole[table["offset"] : table["offset"] + 32] = entry
    return with_footer(bytes(whole), footer)


def test_a_packed_block_of_the_right_size_is_read() -> None:
    content = zstandard.compress(b"y" * 100_000)
    assert read(packed_block(content, 100_000)) == [{"raw": b"y" * 100_000}]


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    bomb = zstandard.ZstdCompressor(19).compress(bytes(1 << 28))
    with pytest.raises(FormatError, match=r"claims to unpack from \d+ to 268435456 bytes"):
        read(packed_block(bomb, 1 << 28))
    with pytest.raises(CorruptionError, match="does not declare the 100000 bytes"):
        read(packed_block(bomb, 100_000))


@pytest.mark.parametrize("content", [b"", b"no zstd", zstandard.compress(b"y" * 100_000)[:-3]])
def test_a_block_that_is_no_zstd_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptionError, match="block 0 of heap is damaged"):
        read(packed_block(content, 100_000))


@pytest.mark.parametrize(
    ("kind", "dtype", "stored"),
    [
        ("json", None, b"[" * 100_000),
        ("json", None, b"{"),
        ("utf8", None, b"\xff"),
        ("array", "int8", struct.pack("<QQQ", 2, 2**40, 2**40)),
        ("array", "int8", struct.pack("<QQQ", 2, 2**63, 0)),
        ("array", "int8", struct.pack("<Q", 2**40)),
        ("array", "int8", b"\1"),
        ("tensor", "bfloat16", struct.pack("<QQ", 1, 5)),
        ("file", None, struct.pack("<I", 2**31) + b"x"),
        ("file", None, b""),
        ("graph", None, b"\2\0\0\0{}"),
        (
            "graph",
            None,
            struct.pack("<I", 90)
            + json.dumps(
                {"kind": "dict", "fields": {"x": {"tensor": False, "dtype": "int8", "shape": [2**50]}}}
            )
            .encode()
            .ljust(90),
        ),
        (
            "graph",
            None,
            struct.pack("<I", 90)
            + json.dumps({"kind": "dict", "fields": {"x": {"tensor": False, "dtype": "O", "shape": [1]}}})
            .encode()
            .ljust(90),
        ),
        ("jpeg", None, b"\xff\xd8\xff"),
        ("png", None, b"\x89PNG\r\n\x1a\n"),
        ("tiff", None, b"II*\0"),
        ("audio", None, b"RIFF"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_an_error_and_not_a_crash(
    kind: str, dtype: str | None, stored: bytes
) -> None:
    tracemalloc.start()
    with pytest.raises(Exception, match=r".") as caught:
        codec_for(kind, dtype).decode(memoryview(stored))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(caught.value, Exception)
    assert not isinstance(caught.value, MemoryError)
    assert peak < LIMIT_BYTES


def test_a_value_that_cannot_be_decoded_names_shard_column_and_row() -> None:
    shard = shard_bytes([{"j": Json(1)}, {"j": Json(2)}])
    damaged = with_section(shard, "heap", lambda heap: heap.__setitem__(1, ord("{")))
    with pytest.raises(CorruptionError, match=r"shard a\.shard: column 'j', row 1: .* cannot be decoded"):
        read(damaged)


def test_a_huge_image_is_refused_by_its_header() -> None:
    data = bytearray(codec_for("jpeg", None).encode(Jpeg(np.zeros((8, 8, 3), np.uint8))))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\x40\x00\x50\x00"
    with pytest.raises(ValueError, match="16384 x 20480 is larger than"):
        codec_for("jpeg", None).decode(memoryview(bytes(data)))


def test_a_snapshot_cannot_name_files_outside_of_its_folder(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    path = tmp_path / "versions" / "1.json"
    stored = json.loads(path.read_text())
    stored.pop("crc32c")
    for name in ("../../etc/passwd", "", ".hidden", "a\0b"):
        stored["shards"][0]["file"] = name
        canonical = json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()
        path.write_text(json.dumps({**stored, "crc32c": crc32c.crc32c(canonical)}))
        with pytest.raises(FormatError, match="names a shard"):
            load(tmp_path, 1)


@pytest.mark.parametrize("text", ["[" * 100_000, "7", '{"crc32c": 1}', "", '{"crc32c": {}}'])
def test_a_snapshot_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    (tmp_path / "versions" / "1.json").write_text(text)
    with pytest.raises((CorruptionError, FormatError), match=r"1\.json"):
        load(tmp_path, 1)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_an_index_says_it_is_read_or_refused(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "indexed"
    if not folder.exists():
        write_dataset(folder, [{"x": i, "t": Tokens([1], "uint8")} for i in range(4)], chunk_bytes=9)
    whole = encode_index(load(folder))
    body = bytearray(whole[:-4])
    start = data.draw(st.integers(8, len(body) - 8))
    struct.pack_into("<Q", body, start, data.draw(st.integers(0, 2**64 - 1)))
    (folder / "index.bin").write_bytes(bytes(body) + struct.pack("<I", crc32c.crc32c(bytes(body))))
    try:
        Dataset(folder)[:8]
    except DataError:
        pass
    finally:
        (folder / "index.bin").write_bytes(whole)


def test_ragged_values_of_a_good_file_are_read() -> None:
    assert read(shard_bytes([{"a": Array(np.zeros((0, 3), np.int8))}]))[0]["a"].shape == (0, 3)


@pytest.mark.parametrize(
    "meta",
    [{}, {"shards": ["a"], "fences": []}, {"shards": [1], "fences": [0]}, {"shards": "a", "fences": [0]}],
)
def test_a_table_of_keys_that_is_none_is_refused(tmp_path: Path, meta: Any) -> None:
    info = write_segment(tmp_path / "x.keys", Entries(["a"], [0], [0], [b"sa"]), None, None)
    data = (tmp_path / "x.keys").read_bytes()
    (tmp_path / "x.keys").write_bytes(with_footer(data, footer_of(data) | {"meta": meta}))
    keys = Keys(
        KeysInfo(None, "first", (info,)), ShardTable.of([]), lambda file: ShardReader(tmp_path / file)
    )
    with pytest.raises(FormatError, match=r"x\.keys is no table of keys"):
        keys.find_all("a")
