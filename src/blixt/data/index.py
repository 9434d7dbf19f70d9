"""`index.bin`: the newest version in one object, so that a dataset of any size opens with one request.

FORMAT.md has the layout: a fixed head, the snapshot's JSON without its shards, one array per field of a
shard, the shards' names, and a checksum over all of it.
"""

import json
import struct
from typing import Any

import numpy as np

from blixt.data.errors import CorruptionError, FormatError
from blixt.data.manifest import Snapshot
from blixt.data.shard.layout import MAJOR, MINOR, crc32c
from blixt.data.shard.table import ShardTable

INDEX = "index.bin"
_MAGIC = b"BLXINDEX"
_HEAD = struct.Struct("<8sHHIQQQ")
"""magic, major, minor, zero, shards, length of the JSON, length of the names."""
_CRC_BYTES = 4


def encode_index(snapshot: Snapshot) -> bytes:
    """Return a snapshot as the content of `index.bin`."""
    shards = snapshot.shards
    summary = json.dumps(snapshot.summary(), separators=(",", ":")).encode()
    streams = _streams(snapshot.schema.to_json()) if len(shards) else []
    head = _HEAD.pack(_MAGIC, MAJOR, MINOR, 0, len(shards), len(summary), len(shards.names))
    parts = [
        head,
        shards.rows.astype("<u8").tobytes(),
        shards.size_bytes.astype("<u8").tobytes(),
        shards.name_ends.astype("<u8").tobytes(),
        *(shards.tokens[name].astype("<u8").tobytes() for name in streams),
        shards.crc32c.astype("<u4").tobytes(),
        summary,
        shards.names,
    ]
    whole = b"".join(parts)
    return whole + crc32c(whole).to_bytes(_CRC_BYTES, "little")


def decode_index(data: bytes, name: str) -> Snapshot:
    """Read the content of an `index.bin`.

    Raises:
        CorruptionError: when it was cut short or does not match its checksum.
        FormatError: when it is none that this version can read.
    """
    advice = "delete it: versions/*.json say all that it says"
    if len(data) < _HEAD.size + _CRC_BYTES or not data.startswith(_MAGIC):
        raise CorruptionError(f"{name} is damaged: it is no index, bytes 0 to {min(len(data), 8)}; {advice}")
    body = memoryview(data)[:-_CRC_BYTES]
    if crc32c(body) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        raise CorruptionError(
            f"{name} is damaged: its checksum does not match, bytes 0 to {len(data)}; {advice}"
        )
    _, major, _, _, count, summary_size, names_size = _HEAD.unpack_from(data)
    if major != MAJOR:
        raise FormatError(f"{name} has format version {major}, this blixt reads {MAJOR}; upgrade blixt")
    try:
        summary_at = len(body) - names_size - summary_size
        summary: dict[str, Any] = json.loads(bytes(body[summary_at : summary_at + summary_size]))
        streams = _streams(summary)
        if summary_at != _HEAD.size + count * (8 * (3 + len(streams)) + 4):
            raise ValueError("its parts do not fill it")
        shards = _table(body, count, streams, bytes(body[len(body) - names_size :]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
        raise FormatError(f"{name} makes no sense ({type(problem).__name__}: {problem}); {advice}") from None
    return Snapshot.from_json(summary, name, shards)


def _table(body: memoryview, count: int, streams: list[str], names: bytes) -> ShardTable:
    at = _HEAD.size
    arrays: list[Any] = []
    for _ in range(3 + len(streams)):
        arrays.append(np.frombuffer(body, "<u8", count, at))
        at += 8 * count
    rows, sizes, ends, *tokens = arrays
    if (np.diff(ends.astype(np.int64), prepend=0) <= 0).any() or (count and int(ends[-1]) != len(names)):
        raise ValueError("the names of its shards are not in order")
    if count and int(rows.max()) * count >= 1 << 62:
        raise ValueError("it has absurdly many rows")
    crcs = np.frombuffer(body, "<u4", count, at)
    return ShardTable(names, ends, rows, sizes, crcs, dict(zip(streams, tokens, strict=True)))


def _streams(summary: dict[str, Any]) -> list[str]:
    return [column["name"] for column in summary["columns"] if column["kind"] == "stream"]
