"""The tables of a dataset that only save time, read as FORMAT.md says; no code of blixt is in it."""

import json
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from struct import unpack_from
from typing import Any

import numpy as np
from crc32c import crc32c

from .format_reader import read_file, read_snapshot


def read_index(folder: Path) -> dict[str, Any]:
    """Return what `index.bin` says: a snapshot without `commit` and its checksum."""
    data = (folder / "index.bin").read_bytes()
    magic, major, count, summary_size, names_size = unpack_from("<8sH6xQQQ", data)
    assert (magic, major) == (b"BLXINDEX", 1)
    assert unpack_from("<I", data, len(data) - 4) == (crc32c(data[:-4]),)
    names_at = len(data) - 4 - names_size
    summary = json.loads(data[names_at - summary_size : names_at])
    streams = [column["name"] for column in summary["columns"] if column["kind"] == "stream"]
    numbers = np.frombuffer(data, "<u8", (3 + len(streams)) * count, 40).reshape(-1, count)
    rows, sizes, ends, *tokens = numbers.tolist()
    checksums = np.frombuffer(data, "<u4", count, 40 + numbers.nbytes).tolist()
    shards = [
        {
            "file": data[names_at + start : names_at + end].decode(),
            "rows": rows[at],
            "size_bytes": sizes[at],
            "crc32c": checksums[at],
            "tokens": {name: tokens[stream][at] for stream, name in enumerate(streams)},
        }
        for at, (start, end) in enumerate(pairwise([0, *ends]))
    ]
    return {**summary, "shards": shards}


def read_keys(folder: Path, key: bytes = b"") -> dict[bytes, tuple[str, int]]:
    """Return in which shard and row of the newest version each key is."""
    snapshot, places = read_snapshot(folder), {}
    alive = {shard["file"] for shard in snapshot["shards"]}
    for segment in snapshot["keys"]["segments"]:
        data = (folder / "keys" / segment["file"]).read_bytes()
        footer = json.loads(data[-20 - unpack_from("<Q", data, len(data) - 20)[0] : -20])
        entries = read_file(folder / "keys", segment, key)
        hashes = [int(entry["hash"]) for entry in entries]
        assert hashes == sorted(hashes)
        assert footer["meta"]["fences"] == hashes[::131_072]
        for entry in entries:
            digest = blake2b(entry["key"], digest_size=8).digest()
            assert entry["hash"] == int.from_bytes(digest, "little")
            shard = footer["meta"]["shards"][entry["shard"]]
            if shard in alive:
                places[entry["key"]] = (shard, int(entry["row"]))
    return places
