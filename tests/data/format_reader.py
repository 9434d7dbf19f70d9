"""A reader of the dataset format written from FORMAT.md alone; it shares no code with blixt."""

import json
import struct
from pathlib import Path
from typing import Any

import crc32c
import numpy as np


def read_dataset(folder: Path) -> list[Any]:
    """Return all samples of the newest version."""
    versions = {int(path.stem): path for path in (folder / "versions").glob("*.json")}
    snapshot = json.loads(versions[max(versions)].read_text())
    checksum = snapshot.pop("crc32c")
    canonical = json.dumps(snapshot, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    assert crc32c.crc32c(canonical) == checksum
    assert snapshot["format"] == "blixt.dataset"
    assert snapshot["format_version"] == [1, 0]
    samples: list[Any] = []
    for shard in snapshot["shards"]:
        data = (folder / "shards" / shard["file"]).read_bytes()
        assert len(data) == shard["size_bytes"]
        assert data[16:32].hex() == snapshot["dataset_id"].replace("-", "")
        rows = read_shard(data)
        assert len(rows) == shard["rows"]
        samples += rows
    assert len(samples) == snapshot["rows"]
    return samples


def read_shard(data: bytes) -> list[Any]:
    """Return a shard's samples, having checked every checksum."""
    magic, major, _minor, flags = struct.unpack_from("<8sHHI", data, 0)
    assert (magic, major, flags) == (b"BLXSHARD", 1, 0)
    assert struct.unpack_from("<I", data, 60)[0] == crc32c.crc32c(data[:60])
    length, footer_crc, end = struct.unpack_from("<QI8s", data, len(data) - 20)
    assert end == b"BLXSHEND"
    raw_footer = data[len(data) - 20 - length : len(data) - 20]
    assert crc32c.crc32c(raw_footer) == footer_crc
    footer = json.loads(raw_footer)
    sections = {
        (s["role"], s["column"]): _section(data, s, footer["crc_block_bytes"]) for s in footer["sections"]
    }
    variable = [column["name"] for column in footer["columns"] if column["kind"] == "variable"]
    if variable:
        _check_heap(sections["heap", None], sections["heap_blocks", None], footer["rows"])
    return [
        _build(
            footer["structure"],
            {c["name"]: _value(c, row, sections, variable) for c in footer["columns"]},
        )
        for row in range(footer["rows"])
    ]


def _section(data: bytes, section: dict[str, Any], block_bytes: int) -> bytes:
    assert section["offset"] % 64 == 0
    content = data[section["offset"] : section["offset"] + section["size"]]
    if section["role"] != "heap":
        blocks = [content[i : i + block_bytes] for i in range(0, len(content), block_bytes)]
        assert [crc32c.crc32c(block) for block in blocks] == section["crc32c"]
    return content


def _check_heap(heap: bytes, table: bytes, rows: int) -> None:
    next_row = next_byte = 0
    for first_row, offset, size, checksum, codec in struct.iter_unpack("<QQQII", table):
        assert codec == 0
        assert first_row < rows
        assert (first_row, offset) >= (next_row, next_byte)
        assert crc32c.crc32c(heap[offset : offset + size]) == checksum
        next_row, next_byte = first_row + 1, offset + size
    assert next_byte == len(heap)


def _value(column: dict[str, Any], row: int, sections: dict[Any, bytes], variable: list[str]) -> Any:
    name = column["name"]
    if column["kind"] == "stream":
        start, stop = struct.unpack_from("<QQ", sections["documents", name], 8 * row)
        return np.frombuffer(sections["values", name], column["dtype"])[start:stop]
    if column["kind"] == "fixed":
        values = np.frombuffer(sections["values", name], column["dtype"])
        size = int(np.prod(column["shape"], dtype=int))
        one = values[row * size : (row + 1) * size].reshape(column["shape"])
        return one.item() if column["type"] in ("int", "float", "bool") else one
    place = row * len(variable) + variable.index(name)
    start, stop = struct.unpack_from("<QQ", sections["heap_offsets", None], 8 * place)
    stored = sections["heap", None][start:stop]
    if column["type"] == "utf8":
        return stored.decode()
    if column["type"] == "bytes":
        return stored
    (dimensions,) = struct.unpack_from("<Q", stored)
    shape = struct.unpack_from(f"<{dimensions}Q", stored, 8)
    return np.frombuffer(stored[8 + 8 * dimensions :], column["dtype"]).reshape(shape)


def _build(structure: dict[str, Any], leaves: dict[str, Any]) -> Any:
    if "leaf" in structure:
        return leaves[structure["leaf"]]
    if "dict" in structure:
        return {key: _build(child, leaves) for key, child in structure["dict"].items()}
    if "list" in structure:
        return [_build(child, leaves) for child in structure["list"]]
    return tuple(_build(child, leaves) for child in structure["tuple"])
