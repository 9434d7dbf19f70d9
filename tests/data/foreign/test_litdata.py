"""LitData's folders, written by five of its versions in every layout, read without LitData."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data.errors import DataError, FormatError
from blixt.data.foreign import LitDataDataset, LitDataTokens, fernet
from blixt.data.foreign.leaves import plain_pickle
from blixt.data.foreign.litdata import nested
from data.foreign import samples
from data.foreign.compare import same_values

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = ("0.2.30", "0.2.45", "0.2.58", "0.2.71", "0.2.76")


def fixture(version: str, name: str) -> Path:
    return FIXTURES / f"litdata-{version}" / name


def opened(path: Path, cache: Path, **options: Any) -> LitDataDataset:
    return LitDataDataset(path, cache_dir=cache, **options)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_of_leaf_has_the_value_that_was_written(version: str, tmp_path: Path) -> None:
    dataset = opened(fixture(version, "tree"), tmp_path)
    assert len(dataset) == samples.ROWS
    for i in range(samples.ROWS):
        sample = dataset[i]
        pil, jpeg = sample.pop("pil"), sample.pop("jpeg")
        assert same_values(sample, samples.tree(i)), (i, sample)
        assert np.array_equal(pil, samples.pixels(i))
        assert jpeg.shape == (4, 6, 3)
        assert jpeg.dtype == np.uint8


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_compressed_as_whole_files_are_unpacked(version: str, tmp_path: Path) -> None:
    dataset = opened(fixture(version, "zstd"), tmp_path)
    assert all(same_values(dataset[i], samples.tree(i)) for i in range(samples.ROWS))


@pytest.mark.parametrize("name", ["zstd-batch", "zstd-sample"])
def test_frames_and_samples_compressed_inside_a_chunk_are_unpacked(name: str, tmp_path: Path) -> None:
    dataset = opened(fixture("0.2.76", name), tmp_path)
    assert all(same_values(dataset[i], samples.tree(i)) for i in (9, 0, 4, 3, 8, 7, 1))


@pytest.mark.parametrize(
    ("version", "name"), [("0.2.71", "plain"), ("0.2.76", "plain"), ("0.2.76", "plain-zstd")]
)
def test_rows_of_plain_values_are_read_from_either_layout(version: str, name: str, tmp_path: Path) -> None:
    dataset = opened(fixture(version, name), tmp_path)
    assert same_values(dataset[:], [samples.plain(i) for i in range(samples.ROWS)])


def test_nested_lists_and_records_are_leaves(tmp_path: Path) -> None:
    dataset = opened(fixture("0.2.76", "nested"), tmp_path)
    assert same_values(dataset[:], [samples.nested(i) for i in range(samples.ROWS)])


def test_typed_media_are_decoded_or_bytes(tmp_path: Path) -> None:
    sample = opened(fixture("0.2.76", "typed"), tmp_path)[3]
    assert np.array_equal(sample["image"], samples.pixels(3))
    assert sample["jpeg"].shape == (4, 6, 3)
    assert (sample["text"], sample["audio"], sample["file"]) == (
        "caption 3",
        b"not really audio 3",
        b"any file 3",
    )
    assert same_values(sample["tensor"], np.full((2, 2), 3, np.int32))


def test_a_list_of_jpegs_is_one_leaf(tmp_path: Path) -> None:
    pictures = opened(fixture("0.2.76", "pictures"), tmp_path)[1]
    assert [picture.shape for picture in pictures] == [(4, 6, 3)] * 2


@pytest.mark.parametrize("version", VERSIONS)
def test_tokens_are_documents_or_blocks_within_chunks(version: str, tmp_path: Path) -> None:
    path = fixture(version, "tokens")
    documents = opened(path, tmp_path)
    expected = [samples.document(i) for i in range(samples.DOCUMENTS)]
    assert same_values(documents[:], expected)
    dims = [chunk["dim"] for chunk in json.loads((path / "index.json").read_text())["chunks"]]
    blocks = LitDataTokens(path, 5, cache_dir=tmp_path)
    assert len(blocks) == sum(dim // 5 for dim in dims)
    assert same_values(blocks[0], np.concatenate(expected)[:5])
    begins = np.concatenate(expected)[dims[0] : dims[0] + 5]
    assert same_values(blocks[dims[0] // 5], begins)


@pytest.mark.parametrize("level", ["sample", "chunk"])
def test_an_encrypted_dataset_opens_with_its_password_and_with_no_other(level: str, tmp_path: Path) -> None:
    path = fixture("0.2.76", f"fernet-{level}")
    dataset = opened(path, tmp_path, decrypt=fernet(path / "key.json", "correct horse"))
    assert same_values(dataset[7], {"id": 7, "x": np.full((1, 2), 7)})
    with pytest.raises(DataError, match=r"is encrypted \(fernet\)"):
        opened(path, tmp_path)
    wrong = opened(path, tmp_path, decrypt=fernet(path / "key.json", "wrong horse"))
    with pytest.raises(FormatError, match="password or key"):
        wrong[0]


def test_pickles_are_refused_unless_asked_for(tmp_path: Path) -> None:
    path = fixture("0.2.76", "pickle")
    with pytest.raises(FormatError, match="allow_pickle=True"):
        opened(path, tmp_path)[0]
    assert opened(path, tmp_path, allow_pickle=True)[4]["odd"] == {4, 5}


def test_a_decoder_of_ones_own_replaces_the_one_for_its_type(tmp_path: Path) -> None:
    dataset = opened(fixture("0.2.76", "tree"), tmp_path, decoders={"jpeg": bytes, "pil": len})
    assert bytes(dataset[2]["jpeg"]).startswith(b"\xff\xd8\xff")
    assert dataset[2]["pil"] > 72


def test_a_region_of_interest_reads_only_those_rows_of_each_chunk(tmp_path: Path) -> None:
    path = fixture("0.2.76", "tree")
    dataset = opened(path, tmp_path, region_of_interest=[(1, 3), (0, 0), (1, 2)])
    assert [sample["int"] + 3 for sample in dataset] == [1, 2, 9]
    with pytest.raises(ValueError, match=r"does not fit chunk-0-2\.bin"):
        opened(path, tmp_path, region_of_interest=[(1, 3), (0, 0), (1, 3)])
    with pytest.raises(ValueError, match="3 chunks"):
        opened(path, tmp_path, region_of_interest=[(0, 1)])


def test_it_travels_to_another_process(tmp_path: Path) -> None:
    dataset = opened(fixture("0.2.76", "zstd-batch"), tmp_path)
    expected = dataset[5]
    assert same_values(pickle.loads(pickle.dumps(dataset))[5], expected)


def test_a_folder_without_an_index_and_a_missing_chunk_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no dataset of LitData"):
        opened(tmp_path, tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(fixture("0.2.76", "tree"), copy)
    (copy / "chunk-0-1.bin").unlink()
    with pytest.raises(FormatError, match=r"chunk-0-1\.bin is missing"):
        opened(copy, tmp_path)[5]


@pytest.mark.parametrize("name", ["tree", "zstd", "zstd-batch", "plain", "tokens"])
def test_a_chunk_cut_short_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fixture("0.2.76", name), copy)
    chunk = next(iter(sorted(copy.glob("chunk-0-0.*"))))
    chunk.write_bytes(chunk.read_bytes()[:-40])
    with pytest.raises(DataError, match="chunk-0-0"):
        opened(copy, tmp_path)[:4]


def test_json_of_older_versions_and_damaged_values() -> None:
    assert nested.decode(b'{"a": [1, null]}') == {"a": [1, None]}
    with pytest.raises(FormatError, match="cannot be read"):
        nested.decode(b"\x01\xff\xff\xff\xff")


def test_graphs_and_tiffs_are_arrays(tmp_path: Path) -> None:
    sample = opened(fixture("0.2.76", "graph"), tmp_path)[2]
    assert same_values(sample["graph"]["x"], np.full((4, 2), 2, np.float32))
    assert sample["graph"]["edge_index"].tolist() == [[0, 1], [1, 2]]
    assert same_values(sample["tiff"], samples.pixels(2)[..., 0].astype(np.uint16))


def test_the_tree_of_a_graph_is_read_without_running_code() -> None:
    assert plain_pickle(pickle.dumps({"_paths": [("x",)], "n": (1, None)})) == {
        "_paths": [("x",)],
        "n": (1, None),
    }
    for harmful in (print, Path("x"), np.float64(1)):
        with pytest.raises(FormatError, match="should hold plain values"):
            plain_pickle(pickle.dumps({"_tree": harmful}))
    with pytest.raises(FormatError, match="should hold plain values"):
        plain_pickle(b"\x80\x04 no pickle")
