"""Token blocks of any length run across documents and shards, and no token is lost."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import DataError, Dataset, DatasetWriter, Loader, TokenDataset, Tokens

from .samples import write_stream


@given(
    documents=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    chunk_bytes=st.integers(1, 400),
    block_size=st.integers(1, 50),
    overlap=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_blocks_of_any_length_give_the_stream_back(
    documents: list[int], chunk_bytes: int, block_size: int, overlap: int
) -> None:
    total = sum(documents)
    with tempfile.TemporaryDirectory() as folder:
        write_stream(Path(folder), documents, chunk_bytes)
        if total < block_size + overlap:
            with pytest.raises(DataError, match=f"has {total} tokens, too few for one block"):
                TokenDataset(folder, block_size, overlap=overlap)
            return
        dataset = TokenDataset(folder, block_size, overlap=overlap)
        blocks = list(dataset)
        starts = [min(i * block_size, total - block_size - overlap) for i in range(len(dataset))]
        assert [block.tolist() for block in blocks] == [
            list(range(start, start + block_size + overlap)) for start in starts
        ]
        assert blocks[-1][-1] == total - 1


def test_every_token_is_a_target_once_when_blocks_divide_the_stream(tmp_path: Path) -> None:
    dataset = TokenDataset(write_stream(tmp_path, [65]), 16)
    assert np.concatenate([block[1:] for block in dataset]).tolist() == list(range(1, 65))


def test_items_are_int64_whatever_is_stored(tmp_path: Path) -> None:
    dataset = TokenDataset(write_stream(tmp_path, [100]), 10)
    assert dataset[0].dtype == np.int64
    assert dataset.read_batch([0, 3, 5]).shape == (3, 11)


def test_shuffling_gives_each_block_once_per_epoch_in_another_order(tmp_path: Path) -> None:
    dataset = TokenDataset(write_stream(tmp_path, [1000]), 10, shuffle=True, seed=1)
    first, second = [int(block[0]) for block in dataset], [int(block[0]) for block in dataset]
    assert sorted(first) == sorted(second) == [*range(0, 990, 10), 989]
    assert first != second


def test_a_stream_may_stand_beside_other_columns(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        for i in range(9):
            writer.write({"name": f"doc {i}", "ids": Tokens([i] * 4), "mask": Tokens([1] * 4, "uint8")})
    with pytest.raises(DataError, match="several token streams, choose column= one of ids, mask"):
        TokenDataset(tmp_path, 4)
    assert TokenDataset(tmp_path, 8, column="ids", overlap=0)[0].tolist() == [0] * 4 + [1] * 4
    with pytest.raises(DataError, match="no token stream 'name'; it has ids, mask"):
        TokenDataset(tmp_path, 4, column="name")


def test_a_dataset_without_tokens_says_so(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.write({"x": 1})
    with pytest.raises(DataError, match="has no token stream"):
        TokenDataset(tmp_path, 4)


def test_a_state_of_another_block_size_is_refused(tmp_path: Path) -> None:
    write_stream(tmp_path, [1000])
    with pytest.raises(DataError, match="its block_size is 10 and here it is 20"):
        TokenDataset(tmp_path, 20).load_state_dict(TokenDataset(tmp_path, 10).state_dict())


def test_a_loader_reads_ahead_but_its_state_counts_what_was_handed_out(tmp_path: Path) -> None:
    write_stream(tmp_path, [4000])
    loader = Loader(TokenDataset(tmp_path, 10, shuffle=True), 8, prefetch=5)
    batches = [batch.tolist() for batch in loader]
    assert len(batches) == len(loader) == 50
    loader.set_epoch(0)
    iterator = iter(loader)
    for _ in range(7):
        next(iterator)
    state = loader.state_dict()
    iterator.close()
    again = Loader(TokenDataset(tmp_path, 10), 8)
    again.load_state_dict(state)
    assert [batch.tolist() for batch in again] == batches[7:]


def test_an_error_in_the_reading_thread_reaches_the_caller(tmp_path: Path) -> None:
    write_stream(tmp_path, [4000])

    def fail(batch: object) -> object:
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        list(Loader(TokenDataset(tmp_path, 10), 8, transform=fail))


def test_importing_data_does_not_import_torch() -> None:
    code = "import sys, blixt.data, blixt.data.torch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(
    documents=st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(any),
    chunk_bytes=st.integers(1, 400),
    length=st.integers(1, 50),
)
@settings(max_examples=60, deadline=None)
def test_packing_keeps_documents_whole_and_loses_no_token(
    documents: list[int], chunk_bytes: int, length: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_stream(Path(folder), documents, chunk_bytes)
        items = list(TokenDataset(folder, length, overlap=0, documents="pack", pad=60000))
    kept = np.concatenate([item["tokens"][item["document"] >= 0] for item in items])
    assert kept.tolist() == list(range(sum(documents)))
    starts = set(np.cumsum([0, *documents]).tolist())
    for item in items:
        size = int((item["document"] >= 0).sum())
        assert (item["tokens"][size:] == 60000).all()
        assert (item["document"][size:] == -1).all()
        assert (item["position"][size:] == -1).all()
        begins = np.flatnonzero(item["position"][:size] == 0)
        assert begins.tolist() == np.flatnonzero(np.diff(item["document"][:size], prepend=-1)).tolist()
        assert all(int(item["tokens"][at]) in starts for at in begins[1:])
    whole = [n for n in documents if 0 < n <= length]
    cut = sum(-(-n // length) for n in documents if n > length)
    assert sum(int(item["document"].max()) + 1 for item in items) == len(whole) + cut


def test_a_block_is_filled_while_documents_fit(tmp_path: Path) -> None:
    dataset = TokenDataset(write_stream(tmp_path, [3, 4, 2, 5, 12]), 9, overlap=0, documents="pack", pad=7)
    items = [dataset[i] for i in range(len(dataset))]
    assert [item["document"].tolist() for item in items] == [
        [0, 0, 0, 1, 1, 1, 1, 2, 2],
        [0] * 5 + [-1] * 4,
        [0] * 9,
        [0] * 3 + [-1] * 6,
    ]
    assert items[0]["position"].tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]


@given(
    documents=st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(lambda sizes: sum(sizes) >= 20),
    chunk_bytes=st.integers(1, 400),
)
@settings(max_examples=40, deadline=None)
def test_masks_say_which_document_each_token_is_of(documents: list[int], chunk_bytes: int) -> None:
    of = np.repeat(np.arange(len(documents)), documents)
    with tempfile.TemporaryDirectory() as folder:
        write_stream(Path(folder), documents, chunk_bytes)
        for item in TokenDataset(folder, 16, documents="mask"):
            low = int(item["tokens"][0])
            changes = np.diff(of[low : low + 17]) != 0
            assert (np.diff(item["document"]) != 0).tolist() == changes.tolist()
            assert item["position"].tolist() == [
                offset - int(np.flatnonzero(item["document"] == item["document"][offset])[0])
                for offset in range(17)
            ]


def test_whole_documents_are_rows_of_a_dataset(tmp_path: Path) -> None:
    write_stream(tmp_path, [3, 0, 5])
    assert [document.tolist() for document in Dataset(tmp_path)] == [[0, 1, 2], [], [3, 4, 5, 6, 7]]


def test_an_unknown_way_with_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="documents must be one of join, mask, pack"):
        TokenDataset(write_stream(tmp_path, [100]), 10, documents=cast(Any, "split"))
