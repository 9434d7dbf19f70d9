"""MosaicML's MDS folders, read without mosaicml-streaming."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from blixt.data.errors import CorruptionError, FormatError
from blixt.data.foreign import MDSDataset
from data.foreign import samples
from data.foreign.compare import same_values

FIXTURES = Path(__file__).parent / "fixtures" / "mds"
COMPRESSIONS = ("zstd", "zstd-7", "gz", "bz2", "br", "snappy", "hashes")


def test_every_encoding_has_the_value_that_was_written(tmp_path: Path) -> None:
    dataset = MDSDataset(FIXTURES / "columns", cache_dir=tmp_path)
    assert same_values(dataset[:], [samples.columns(i) for i in range(samples.ROWS)])


def test_images_are_arrays(tmp_path: Path) -> None:
    sample = MDSDataset(FIXTURES / "images", cache_dir=tmp_path)[2]
    assert np.array_equal(sample["png"], samples.pixels(2))
    assert np.array_equal(sample["pil"], samples.pixels(2))
    assert sample["jpeg"].shape == (4, 6, 3)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_every_compression_is_unpacked(name: str, tmp_path: Path) -> None:
    dataset = MDSDataset(FIXTURES / name, cache_dir=tmp_path)
    assert dataset[:] == [{"id": i, "text": "blå" * i} for i in range(samples.ROWS)]


def test_a_shard_that_is_not_the_one_in_the_index_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(FIXTURES / "hashes", copy)
    shard = copy / "shard.00000.mds.gz"
    data = bytearray(shard.read_bytes())
    data[4] ^= 1  # in gzip's own header: the content is the same, the hash is not
    shard.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"shard\.00000\.mds\.gz is damaged: its sha1"):
        MDSDataset(copy, cache_dir=tmp_path)[0]
    assert MDSDataset(copy, cache_dir=tmp_path, check=False)[1] == {"id": 1, "text": "blå"}


def test_pickles_are_refused_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="allow_pickle=True"):
        MDSDataset(FIXTURES / "pickle", cache_dir=tmp_path)[0]
    assert MDSDataset(FIXTURES / "pickle", cache_dir=tmp_path, allow_pickle=True)[1] == {"odd": {1}}


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"version": 2, "shards": [{"format": "jsonl", "version": 2}]}')
    with pytest.raises(FormatError, match="'jsonl'"):
        MDSDataset(tmp_path)


def test_a_shard_cut_short_is_an_error_that_names_it(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(FIXTURES / "columns", copy)
    shard = copy / "shard.00001.mds"
    shard.write_bytes(shard.read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"shard\.00001\.mds"):
        MDSDataset(copy, cache_dir=tmp_path)[:]
