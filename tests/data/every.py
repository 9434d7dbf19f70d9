"""One sample with every kind of column, and shards of such samples in memory, damaged if need be."""

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import crc32c
import numpy as np

from blixt.data import Array, Encryption, File, Jpeg, Json, ShardReader, ShardWriter, Tokens
from blixt.data.shard.mapped import MemoryFile

KEY = bytes(range(32))
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compressed": {"compress": "zstd"},
    "encrypted": {"encrypt": Encryption(KEY, "k1")},
    "both": {"compress": "zstd:9", "encrypt": Encryption(KEY, "k1")},
}


def every(i: int) -> dict[str, Any]:
    """A sample whose columns have every kind; it compresses well."""
    return {
        "id": i,
        "score": i / 4,
        "yes": i % 2 == 0,
        "pixels": np.full((2, 2), i, np.uint8),
        "text": f"text {i} " * 4,
        "raw": bytes([i]) * 9,
        "json": Json({"n": [i, None, "ü"]}),
        "image": Jpeg(b"\xff\xd8" + bytes([i]) * 9),
        "ragged": [Array(np.ones((i % 3, 2), np.int16)), (File(b"abc", name="f.txt"),)],
        "tokens": Tokens([i] * (i % 4), "uint16"),
    }


def shard_bytes(samples: list[Any], **options: Any) -> bytes:
    """Return a shard of the samples."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.shard"
        with ShardWriter(path, **options) as writer:
            for sample in samples:
                writer.write(sample)
        return path.read_bytes()


def open_bytes(data: bytes, **options: Any) -> ShardReader:
    """Open a shard that is in memory."""
    return ShardReader(MemoryFile("a.shard", bytes(data)), key=KEY, **{"decode": False, **options})


def footer_of(data: bytes) -> dict[str, Any]:
    """Return a shard's footer."""
    (length,) = struct.unpack_from("<Q", data, len(data) - 20)
    return json.loads(data[len(data) - 20 - length : len(data) - 20])


def with_footer(data: bytes, footer: Any) -> bytes:
    """Return the shard with another footer (an object or bytes), its checksum made right."""
    (length,) = struct.unpack_from("<Q", data, len(data) - 20)
    new = footer if isinstance(footer, bytes) else json.dumps(footer).encode()
    trailer = struct.pack("<QI8s", len(new), crc32c.crc32c(new), b"BLXSHEND")
    return data[: len(data) - 20 - length] + new + trailer


def with_section(data: bytes, role: str, change: Any) -> bytes:
    """Return the shard with the bytes of a plain section changed in place, all its checksums made right."""
    footer = footer_of(data)
    section = next(one for one in footer["sections"] if one["role"] == role)
    start, size = section["offset"], section["size"]
    content = bytearray(data[start : start + size])
    change(content)
    assert len(content) == size <= section["block_bytes"]
    if role == "heap":
        table = next(one for one in footer["sections"] if one["role"] == "heap_blocks")
        patched = bytearray(data)
        patched[start : start + size] = content
        struct.pack_into("<I", patched, table["offset"] + 24, crc32c.crc32c(bytes(content)))
        entry = bytes(patched[table["offset"] : table["offset"] + table["size"]])
        table["crc32c"] = [crc32c.crc32c(entry)]
        return with_footer(bytes(patched), footer)
    section["crc32c"] = [crc32c.crc32c(bytes(content))]
    return with_footer(data[:start] + bytes(content) + data[start + size :], footer)
