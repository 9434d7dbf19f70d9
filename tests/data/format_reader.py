"""A reader of datasets, written from FORMAT.md alone; no code of blixt is in it."""

import json
from itertools import pairwise
from pathlib import Path
from struct import iter_unpack, pack, unpack_from
from typing import Any

import numpy as np
from crc32c import crc32c
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from zstandard import ZstdDecompressor


def read_dataset(folder: Path, key: bytes = b"") -> list[Any]:
    shards = read_snapshot(folder)["shards"]
    return [sample for shard in shards for sample in read_file(folder / "shards", shard, key)]


def read_file(folder: Path, entry: dict[str, Any], key: bytes) -> list[Any]:
    data = (folder / entry["file"]).read_bytes()
    assert (len(data), *unpack_from("<I", data, len(data) - 12)) == (entry["size_bytes"], entry["crc32c"])
    samples = read_shard(data, key)
    assert len(samples) == entry["rows"]
    return samples


def read_snapshot(folder: Path) -> dict[str, Any]:
    versions = {int(path.stem): path for path in (folder / "versions").glob("*.json")}
    snapshot = json.loads(versions[max(versions)].read_text())
    checksum = snapshot.pop("crc32c")
    assert checksum == crc32c(json.dumps(snapshot, sort_keys=True, separators=(",", ":")).encode())
    assert (snapshot["format"], snapshot["format_version"][0]) == ("blixt.dataset", 1)
    return snapshot


def read_shard(data: bytes, key: bytes = b"") -> list[Any]:
    length, checksum, magic = unpack_from("<QI8s", data, len(data) - 20)
    text = data[len(data) - 20 - length : len(data) - 20]
    assert (magic, checksum) == (b"BLXSHEND", crc32c(text))
    footer = json.loads(text)
    header = (b"BLXSHARD", 1, 0, bytes.fromhex(footer["dataset_id"].replace("-", "")), crc32c(data[:60]))
    assert unpack_from("<8sH2xI16s28xI", data) == header
    aes = open_cipher(footer["encryption"], key) if "encryption" in footer else None
    sections: dict[tuple[str, str | None], bytes] = {}
    for number, section in sorted(enumerate(footer["sections"]), key=lambda one: one[1]["role"] == "heap"):
        table = sections["heap_blocks", None] if section["role"] == "heap" else b""
        sections[section["role"], section["column"]] = read_section(data, number, section, table, aes)
    variable = [column["name"] for column in footer["columns"] if column["kind"] == "variable"]
    columns = {c["name"]: read_column(c, footer["rows"], sections, variable) for c in footer["columns"]}
    return [build(footer["structure"], columns, row) for row in range(footer["rows"])]


def open_cipher(entry: dict[str, str], key: bytes) -> AESGCM:
    salt = bytes.fromhex(entry["salt"])
    check = HKDF(SHA256(), 8, salt, b"blixt key check").derive(key).hex()
    assert (entry["cipher"], entry["check"]) == ("AES-256-GCM", check)
    return AESGCM(HKDF(SHA256(), 32, salt, b"blixt shard key").derive(key))


def read_section(data: bytes, number: int, entry: dict[str, Any], table: bytes, aes: Any) -> bytes:
    total, grain, at = entry.get("raw_size", entry["size"]), entry["block_bytes"], entry["offset"]
    raws = [min(grain, total - start) for start in range(0, total, grain)]
    sizes, codecs = entry.get("sizes", raws), entry.get("codecs", [0] * len(raws))
    listed = zip(raws, sizes, entry["crc32c"], codecs, strict=not table)
    parts: list[bytes] = []
    for block, (raw, size, checksum, codec) in enumerate(iter_unpack("<8xQQII", table) if table else listed):
        stored = data[at : at + size]
        assert (crc32c(stored), codec in range(4)) == (checksum, True)
        if codec & 2:
            stored = aes.decrypt(pack("<IQ", number, block), stored, pack("<I", codec))
        parts.append(ZstdDecompressor().decompress(stored) if codec & 1 else stored)
        assert len(parts[-1]) == raw
        at += size
    assert at == entry["offset"] + entry["size"]
    return b"".join(parts)


def items(dtype: str, shape: Any, content: bytes, at: int = 0) -> Any:
    bits, count = dtype.replace("bfloat16", "uint16"), np.prod(shape, dtype=int)
    return np.frombuffer(content, bits, count, at).reshape(shape)


def read_column(column: dict[str, Any], rows: int, sections: Any, variable: list[str]) -> list[Any]:
    name, kind, dtype = column["name"], column["type"], column.get("dtype", "")
    if column["kind"] == "fixed":
        values = items(dtype, (rows, *column["shape"]), sections["values", name])
        return values.tolist() if kind in ("int", "float", "bool") else list(values)
    if column["kind"] == "stream":
        tokens, ends = np.frombuffer(sections["values", name], dtype), sections["documents", name]
        return [tokens[start:end] for start, end in pairwise(np.frombuffer(ends, "<u8"))]
    ends = np.frombuffer(sections["heap_offsets", None], "<u8")
    spans = list(pairwise(ends))[variable.index(name) :: len(variable)]
    return [decode(kind, dtype, sections["heap", None][start:end]) for start, end in spans]


def decode(kind: str, dtype: str, stored: bytes) -> Any:
    if kind in ("array", "tensor"):
        shape = unpack_from(f"<{stored[0]}Q", stored, 8)
        return items(dtype, shape, stored, 8 + 8 * len(shape))
    if kind in ("file", "graph"):
        at = 4 + unpack_from("<I", stored)[0]
        return (stored[4:at].decode(), stored[at:]) if kind == "file" else decode_graph(stored, at)
    assert kind != "pickle"
    return {"utf8": bytes.decode, "json": json.loads}.get(kind, bytes)(stored)


def decode_graph(stored: bytes, at: int) -> dict[str, Any]:
    fields = json.loads(stored[4:at])["fields"]
    for name, entry in fields.items():
        fields[name] = entry["json"] if "json" in entry else items(entry["dtype"], entry["shape"], stored, at)
        at += getattr(fields[name], "nbytes", 0)
    assert at == len(stored)
    return fields


def build(structure: dict[str, Any], columns: dict[str, list[Any]], row: int) -> Any:
    [(form, inner)] = structure.items()
    if form == "leaf":
        return columns[inner][row]
    if form == "dict":
        return {key: build(child, columns, row) for key, child in inner.items()}
    return (list if form == "list" else tuple)(build(child, columns, row) for child in inner)
