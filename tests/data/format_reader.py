"""A reader of the dataset format written from FORMAT.md alone; it shares no code with blixt."""

import json
import struct
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def read_dataset(folder: Path, key: bytes = b"") -> list[Any]:
    """Return all samples of the newest version."""
    versions = {int(path.stem): path for path in (folder / "versions").glob("*.json")}
    snapshot = json.loads(versions[max(versions)].read_text())
    checksum = snapshot.pop("crc32c")
    canonical = json.dumps(snapshot, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    assert crc32c.crc32c(canonical) == checksum
    assert (snapshot["format"], snapshot["format_version"]) == ("blixt.dataset", [1, 0])
    samples: list[Any] = []
    for shard in snapshot["shards"]:
        data = (folder / "shards" / shard["file"]).read_bytes()
        assert len(data) == shard["size_bytes"]
        assert struct.unpack_from("<I", data, len(data) - 12)[0] == shard["crc32c"]
        rows = read_shard(data, key)
        assert len(rows) == shard["rows"]
        samples += rows
    assert len(samples) == snapshot["rows"]
    return samples


def read_shard(data: bytes, key: bytes = b"") -> list[Any]:
    """Return a shard's samples, having checked every checksum."""
    magic, major, _minor, flags, dataset = struct.unpack_from("<8sHHI16s", data, 0)
    assert (magic, major, flags) == (b"BLXSHARD", 1, 0)
    assert struct.unpack_from("<I", data, 60)[0] == crc32c.crc32c(data[:60])
    length, footer_crc, end = struct.unpack_from("<QI8s", data, len(data) - 20)
    assert end == b"BLXSHEND"
    raw_footer = data[len(data) - 20 - length : len(data) - 20]
    assert crc32c.crc32c(raw_footer) == footer_crc
    footer = json.loads(raw_footer)
    assert footer["dataset_id"].replace("-", "") == dataset.hex()
    aes = _cipher(footer["encryption"], key) if "encryption" in footer else None
    sections = {}
    for number, section in enumerate(footer["sections"]):
        if section["role"] != "heap":
            sections[section["role"], section["column"]] = _section(data, number, section, aes)
    for number, section in enumerate(footer["sections"]):
        if section["role"] == "heap":
            sections["heap", None] = _heap(data, number, section, sections["heap_blocks", None], aes)
    variable = [column["name"] for column in footer["columns"] if column["kind"] == "variable"]
    columns = footer["columns"]
    return [
        _build(footer["structure"], {c["name"]: _value(c, row, sections, variable) for c in columns})
        for row in range(footer["rows"])
    ]


def _cipher(entry: dict[str, Any], key: bytes) -> AESGCM:
    salt = bytes.fromhex(entry["salt"])
    assert entry["cipher"] == "AES-256-GCM"
    assert HKDF(SHA256(), 8, salt, b"blixt key check").derive(key).hex() == entry["check"]
    return AESGCM(HKDF(SHA256(), 32, salt, b"blixt shard key").derive(key))


def _block(
    stored: bytes, crc: int, codec: int, raw: int, section: int, block: int, aes: AESGCM | None
) -> bytes:
    assert crc32c.crc32c(stored) == crc
    assert codec in (0, 1, 2, 3)
    if codec & 2:
        assert aes is not None
        stored = aes.decrypt(struct.pack("<IQ", section, block), stored, struct.pack("<I", codec))
    content = zstandard.ZstdDecompressor().decompress(stored) if codec & 1 else stored
    assert len(content) == raw
    return content


def _section(data: bytes, number: int, section: dict[str, Any], aes: AESGCM | None) -> bytes:
    assert section["offset"] % 64 == 0
    raw, grain, at = section.get("raw_size", section["size"]), section["block_bytes"], section["offset"]
    raws = [min(grain, raw - start) for start in range(0, raw, grain)]
    sizes, codecs = section.get("sizes", raws), section.get("codecs", [0] * len(raws))
    parts = []
    for block, fields in enumerate(zip(sizes, section["crc32c"], codecs, raws, strict=True)):
        size, crc, codec, block_raw = fields
        parts.append(_block(data[at : at + size], crc, codec, block_raw, number, block, aes))
        at += size
    assert at == section["offset"] + section["size"]
    return b"".join(parts)


def _heap(data: bytes, number: int, section: dict[str, Any], table: bytes, aes: AESGCM | None) -> bytes:
    parts, at, last = [], section["offset"], -1
    for block, (first_row, raw, size, crc, codec) in enumerate(struct.iter_unpack("<QQQII", table)):
        assert first_row > last
        parts.append(_block(data[at : at + size], crc, codec, raw, number, block, aes))
        at, last = at + size, first_row
    assert at == section["offset"] + section["size"]
    return b"".join(parts)


def _value(column: dict[str, Any], row: int, sections: dict[Any, bytes], variable: list[str]) -> Any:
    name = column["name"]
    dtype = "uint16" if column.get("dtype") == "bfloat16" else column.get("dtype")
    if column["kind"] == "stream":
        start, stop = struct.unpack_from("<QQ", sections["documents", name], 8 * row)
        return np.frombuffer(sections["values", name], dtype)[start:stop]
    if column["kind"] == "fixed":
        size = int(np.prod(column["shape"], dtype=int))
        values = np.frombuffer(sections["values", name], dtype)[row * size : (row + 1) * size]
        one = values.reshape(column["shape"])
        return one.item() if column["type"] in ("int", "float", "bool") else one
    place = row * len(variable) + variable.index(name)
    start, stop = struct.unpack_from("<QQ", sections["heap_offsets", None], 8 * place)
    stored = sections["heap", None][start:stop]
    if column["type"] in ("array", "tensor"):
        (dimensions,) = struct.unpack_from("<Q", stored)
        shape = struct.unpack_from(f"<{dimensions}Q", stored, 8)
        return np.frombuffer(stored[8 + 8 * dimensions :], dtype).reshape(shape)
    return (
        stored.decode()
        if column["type"] == "utf8"
        else json.loads(stored)
        if column["type"] == "json"
        else stored
    )


def _build(structure: dict[str, Any], leaves: dict[str, Any]) -> Any:
    if "leaf" in structure:
        return leaves[structure["leaf"]]
    if "dict" in structure:
        return {key: _build(child, leaves) for key, child in structure["dict"].items()}
    if "list" in structure:
        return [_build(child, leaves) for child in structure["list"]]
    return tuple(_build(child, leaves) for child in structure["tuple"])
