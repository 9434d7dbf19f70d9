"""A shard that comes in pieces: only what is needed is fetched, and nothing is touched before it is there."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import CorruptionError, ShardReader, ShardWriter, Tokens
from blixt.data.shard.blocks import DecodedCache
from blixt.data.shard.file import Range, merge_ranges
from blixt.data.shard.layout import HEAP_BLOCK_BYTES

from .every import FORMS, KEY, every, open_bytes, shard_bytes
from .samples import same


class SparseFile:
    """A `ShardFile` that holds garbage wherever nothing was ensured."""

    is_local = False

    def __init__(self, data: bytes, spoilt: Sequence[Range] = (), mends: bool = True) -> None:
        self.name, self.size = "far.shard", len(data)
        self._whole, self._here = data, bytearray(b"\xaa" * len(data))
        self.view = memoryview(self._here)
        self.ensured: list[Range] = []
        self.refetched: list[Range] = []
        self._spoilt, self._mends = spoilt, mends

    def ensure(self, ranges: Sequence[Range]) -> None:
        for start, end in ranges:
            self.ensured.append((start, end))
            self._here[start:end] = self._whole[start:end]
            for low, high in self._spoilt:
                if start <= low < high <= end:
                    self._here[low:high] = bytes(high - low)

    def prefetch(self, ranges: Sequence[Range]) -> None:
        self.ensure(ranges)

    def refetch(self, start: int, end: int) -> bool:
        self.refetched.append((start, end))
        if self._mends:
            self._here[start:end] = self._whole[start:end]
        return True

    def close(self) -> None: ...


def open_far(data: bytes, **options: Any) -> tuple[SparseFile, ShardReader]:
    file = SparseFile(data, **options)
    return file, ShardReader(file, key=KEY, decode=False)


SAMPLES = [every(i) for i in range(40)]


@pytest.fixture(scope="module", params=FORMS)
def shard(request: pytest.FixtureRequest) -> bytes:
    return shard_bytes(SAMPLES, **FORMS[request.param])


@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=8), whole=st.booleans())
@settings(max_examples=25, deadline=None)
def test_nothing_is_touched_before_it_is_fetched(shard: bytes, rows: list[int], whole: bool) -> None:
    local = open_bytes(shard)
    _, far = open_far(shard)
    if whole:
        expected, found = local.batch(np.array(rows)), far.batch(np.array(rows))
        assert all(same(value, found[name]) for name, value in expected.items())
    else:
        assert all(same(local.sample(row), far.sample(row)) for row in rows)
    assert all(same(local.sample(row), far.sample(row)) for row in range(40))


def test_the_ranges_of_rows_are_all_that_they_need(shard: bytes) -> None:
    file, reader = open_far(shard)
    rows = np.array([3, 17])
    file.ensure(reader.ranges(rows))
    before = len(file.ensured)
    reader.batch(rows)
    fetched = merge_ranges(file.ensured[:before])
    for start, end in file.ensured[before:]:
        assert any(low <= start and end <= high for low, high in fetched)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("large") / "large.shard"
    rng = np.random.default_rng(0)
    with ShardWriter(path) as writer:
        for i in range(200):
            writer.write(
                {"raw": rng.bytes(30_000), "x": np.full(25_000, i, np.float32), "t": Tokens([i] * 50_000)}
            )
    return path.read_bytes()


def test_opening_a_large_shard_reads_its_end_only(large: bytes) -> None:
    file, _ = open_far(large)
    assert sum(end - start for start, end in merge_ranges(file.ensured)) <= 128 << 10


def test_one_row_of_a_large_shard_takes_one_block_of_each_column(large: bytes) -> None:
    _, reader = open_far(large)
    ranges = reader.ranges(np.array([100]), ["raw"])
    assert sum(end - start for start, end in ranges) < 2 * HEAP_BLOCK_BYTES
    size = sum(end - start for start, end in reader.ranges(np.array([100])))
    assert size < 2 * HEAP_BLOCK_BYTES + (4 << 20)
    low, high = reader.stream("t").token_ranges(10, 20)[0]
    assert high - low <= 1 << 20


def test_a_batch_asks_for_all_that_it_lacks_at_once(large: bytes) -> None:
    _, reader = open_far(large)
    asked: list[int] = []
    file: Any = reader._file
    ensure = file.ensure
    file.ensure = lambda ranges: (asked.append(len(ranges)), ensure(ranges))
    reader.batch(np.array([0, 50, 150]), ["raw", "x"])
    assert asked[0] >= 5


def test_bytes_that_arrive_spoilt_are_fetched_once_more(shard: bytes) -> None:
    file, reader = open_far(shard, spoilt=[(70, 76)])
    assert all(same(open_bytes(shard).sample(row), reader.sample(row)) for row in range(40))
    assert len(file.refetched) == 1


def test_bytes_that_stay_spoilt_are_an_error_that_names_them(shard: bytes) -> None:
    file, reader = open_far(shard, spoilt=[(70, 76)], mends=False)
    with pytest.raises(CorruptionError, match=r"far\.shard: block 0 of heap is damaged, bytes 64 to \d+"):
        reader.sample(0)
    assert len(file.refetched) == 1


@pytest.mark.parametrize("form", ["compressed", "both"])
def test_unpacked_blocks_are_kept_within_a_limit(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path, **FORMS[form]) as writer:
        for i in range(40):
            writer.write({"raw": bytes([i]) * (1 << 20), "x": np.full(1 << 18, i, np.float32)})
    reader = ShardReader(path, key=KEY, cache=DecodedCache(3 << 20))
    tracemalloc.start()
    for row in [*range(40), *range(40)]:
        assert reader.gather("raw", np.array([row]))[0][:1] == bytes([row])
        assert reader.gather("x", np.array([row]))[0, 0] == row
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()


def test_writing_a_shard_holds_a_block_of_it_in_memory(tmp_path: Path) -> None:
    row = bytes(100_000)
    tracemalloc.start()
    with ShardWriter(tmp_path / "a.shard") as writer:
        for i in range(500):
            writer.write({"raw": row, "i": i})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert writer.close().size_bytes > 50_000_000
    assert peak < 3 << 20


def test_a_writer_that_fails_or_is_left_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with ShardWriter(tmp_path / "a.shard") as writer:
            writer.write({"raw": bytes(1 << 20)})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    ShardWriter(tmp_path / "b.shard").discard()
    assert list(tmp_path.iterdir()) == []
