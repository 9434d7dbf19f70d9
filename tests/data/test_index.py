"""`index.bin` opens a dataset of any size with one request, and says exactly what the version says."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blixt.data import (
    CorruptionError,
    Dataset,
    DatasetNotFoundError,
    DatasetWriter,
    ShardInfo,
    ShardWriter,
    Tokens,
)
from blixt.data.index import decode_index, encode_index
from blixt.data.manifest import KeysInfo, Snapshot
from blixt.data.schema import infer
from blixt.data.shard.table import ShardTable
from blixt.data.snapshot import load, publish
from blixt.data.store import LocalStore, UnsupportedError, open_store

from .samples import write_dataset

MANY = 100_000


def many(count: int) -> Snapshot:
    shards = [
        ShardInfo(f"{i % 977:012x}-{i:06d}.shard", 1000 + i % 7, 64 << 20, i, {"t": i}) for i in range(count)
    ]
    schema = infer({"id": 1, "t": Tokens([1], "uint16")})
    return Snapshot(UUID(int=5), 3, schema, ShardTable.of(shards), time.time(), "job", None)


@pytest.fixture(scope="module")
def hundred_thousand() -> Snapshot:
    return many(MANY)


def test_an_index_says_what_the_snapshot_says() -> None:
    segment = ShardInfo("a.keys", 3, 100, 7, {})
    for snapshot in (many(0), many(3), replace(many(2), keys=KeysInfo("id", "last", (segment,)), job=None)):
        assert decode_index(encode_index(snapshot), "index.bin") == snapshot
        assert Snapshot.from_json(snapshot.to_json(), "1.json") == snapshot


def test_a_hundred_thousand_shards_take_little_room_and_are_made_only_when_asked(
    hundred_thousand: Snapshot,
) -> None:
    data = encode_index(hundred_thousand)
    assert len(data) / MANY < 80
    opened = decode_index(data, "index.bin")
    assert (len(opened.shards), opened.rows) == (MANY, hundred_thousand.rows)
    assert opened.shards[99_999] == hundred_thousand.shards[-1]
    assert int(opened.first_row[50_000]) == sum(1000 + i % 7 for i in range(50_000))
    assert opened.tokens("t") == sum(range(MANY))


def test_a_hundred_thousand_shards_open_with_one_get_from_a_real_store(
    s3: Any, faulty: Any, hundred_thousand: Snapshot
) -> None:
    location = s3.location()
    direct = open_store(location, credentials=s3.credentials, options=s3.options)
    publish(direct, hundred_thousand.dataset_id, hundred_thousand.schema, hundred_thousand.shards, "error")
    proxy = faulty(s3.endpoint)
    options = {**s3.options, "endpoint": proxy.endpoint}
    dataset = Dataset(location, credentials=s3.credentials, options=options)
    assert len(dataset) == hundred_thousand.rows
    assert len(proxy.gets()) == 1
    assert proxy.gets()[0].path.split("?")[0].endswith("/index.bin")
    assert len(proxy.requests) <= 2  # and one question whether a newer version exists


class NoListing(LocalStore):
    """A store that cannot list, like a plain web server."""

    def list(self, prefix: str = "") -> Any:
        raise UnsupportedError(f"cannot list {prefix}")


def test_a_store_that_cannot_list_is_read_by_its_index(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    assert load(NoListing(tmp_path)).rows == 1
    assert load(NoListing(tmp_path), 1).rows == 1


def test_an_empty_place_says_that_it_holds_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"holds no blixt dataset \(no index\.bin"):
        load(tmp_path)


def test_a_damaged_index_is_named_and_says_what_to_do(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    data = bytearray((tmp_path / "index.bin").read_bytes())
    data[50] ^= 1
    (tmp_path / "index.bin").write_bytes(data)
    with pytest.raises(CorruptionError, match=r"index\.bin is damaged: .* bytes 0 to \d+; delete it"):
        load(tmp_path)
    (tmp_path / "index.bin").unlink()
    with DatasetWriter(tmp_path, mode="append") as writer:
        writer.write({"x": 2})
    assert load(tmp_path).rows == 2


def test_a_shard_table_is_a_sequence(tmp_path: Path) -> None:
    infos = [ShardInfo(f"{i}.shard", i, i, i, {}) for i in range(5)]
    table = ShardTable.of(infos)
    assert list(table) == infos
    assert table[1:3] == tuple(infos[1:3])
    assert table[-1] == infos[-1]
    assert table.files() == [info.file for info in infos]
    with pytest.raises(IndexError, match="there is no shard 5: the dataset has 5"):
        table[5]


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path, schema=infer({"x": 1, "s": "", "t": Tokens([1])})) as writer:
        pass
    assert (writer.close().rows, writer.close().tokens) == (0, {"t": 0})
