"""webdataset's tar shards: grouped, decoded and addressed by number."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from blixt.data.errors import FormatError
from blixt.data.foreign import WebDataset
from blixt.data.foreign.tar import members
from data.foreign import samples
from data.foreign.compare import same_values

FIXTURES = Path(__file__).parent / "fixtures"
TARS = FIXTURES / "webdataset"


def write_tar(path: Path, files: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_samples_are_dicts_by_extension(tmp_path: Path) -> None:
    dataset = WebDataset(TARS, cache_dir=tmp_path)
    assert len(dataset) == samples.TAR_ROWS
    for i in range(samples.TAR_ROWS):
        sample = dataset[i]
        assert sample["__key__"] == f"train/{i:04d}"
        assert (sample["cls"], sample["txt"], sample["json"]) == (i % 3, f"caption {i} blå", {"id": i})
        assert np.array_equal(sample["seg.png"], samples.pixels(i))
        assert sample["jpg"].shape == (4, 6, 3)
        assert same_values(sample["npy"], samples.tree(i)["np2"])


def test_a_compressed_archive_a_pattern_and_braces_name_shards(tmp_path: Path) -> None:
    packed = WebDataset(FIXTURES / "webdataset-gz", cache_dir=tmp_path)
    assert [sample["txt"] for sample in packed] == ["0", "1", "2"]
    assert len(WebDataset(f"{TARS}/shard-{{000000..000001}}.tar", cache_dir=tmp_path)) == samples.TAR_ROWS
    assert len(WebDataset(f"{TARS}/shard-*1.tar", cache_dir=tmp_path)) == 1
    with pytest.raises(FormatError, match=r"shard-000002\.tar"):
        WebDataset(f"{TARS}/shard-{{000000..000002}}.tar", cache_dir=tmp_path)
    with pytest.raises(FormatError, match="no files that end in"):
        WebDataset(tmp_path, cache_dir=tmp_path)


def test_the_index_is_kept_and_made_anew_when_the_archive_changes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"0.txt": b"a"})
    assert len(WebDataset(path, cache_dir=tmp_path / "cache")) == 1
    [index] = (tmp_path / "cache").iterdir()
    kept = index.stat().st_mtime_ns
    assert len(WebDataset(path, cache_dir=tmp_path / "cache")) == 1
    assert index.stat().st_mtime_ns == kept
    write_tar(path, {"0.txt": b"a", "1.txt": b"b"})
    assert len(WebDataset(path, cache_dir=tmp_path / "cache")) == 2


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_sees(format: int, tmp_path: Path) -> None:
    long = "folder/" * 12 + "x" * 60 + ".txt"
    files = {
        long: b"long",
        "a/blå.txt" if format == tarfile.PAX_FORMAT else "a/b.txt": b"x" * 513,
        "e.txt": b"",
    }
    path = write_tar(tmp_path / "a.tar", files, format)
    content = memoryview(path.read_bytes())
    assert {name: bytes(content[at : at + size]) for name, at, size in members(content, "a.tar")} == files


@pytest.mark.parametrize("cut", [100, 600, 1100])
def test_a_damaged_archive_is_named(cut: int, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"0.txt": b"a" * 600, "1.txt": b"b"})
    data = bytearray(path.read_bytes())
    if cut == 100:
        data[100] ^= 1
    path.write_bytes(data if cut == 100 else data[:cut])
    with pytest.raises(FormatError, match=r"a\.tar"):
        WebDataset(path, cache_dir=tmp_path / "cache")


def test_pickles_are_refused_and_own_decoders_come_first(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"0.pkl": pickle.dumps({1}), "0.txt": b"x"})
    with pytest.raises(FormatError, match="allow_pickle"):
        WebDataset(path, cache_dir=tmp_path)[0]
    assert WebDataset(path, cache_dir=tmp_path, allow_pickle=True)[0]["pkl"] == {1}
    own = WebDataset(path, cache_dir=tmp_path, decoders={"pkl": len, "txt": bytes})
    assert own[0] == {"__key__": "0", "pkl": len(pickle.dumps({1})), "txt": b"x"}


def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"7.cls": b"seven"})
    with pytest.raises(FormatError, match="the cls file of sample '7'"):
        WebDataset(path, cache_dir=tmp_path)[0]
