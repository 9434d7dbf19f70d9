"""A damaged file of another library gives values or an error of ours, never another exception.

These formats have few checksums, so a flipped byte inside a value may pass; it must not end
in an exception that nobody can place.
"""

import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data.errors import DataError
from blixt.data.foreign import open_foreign

FIXTURES = Path(__file__).parent / "fixtures"
FOLDERS = (
    "litdata-0.2.30/tree",
    "litdata-0.2.76/tree",
    "litdata-0.2.76/zstd-sample",
    "litdata-0.2.76/tokens",
    "litdata-0.2.71/plain",
    "litdata-0.2.76/plain",
    "litdata-0.2.76/plain-zstd",
    "mds/columns",
    "mds/images",
    "mds/hashes",
    "webdataset-gz",
)
HEAD_BYTES = 64  # where counts and offsets are: half of the damage goes there


def damaged(data: bytes, where: float, bit: int | None, in_head: bool) -> bytes:
    place = int(where * (min(len(data), HEAD_BYTES) if in_head else len(data)))
    if bit is None:
        return data[:place]
    flipped = bytearray(data)
    flipped[place] ^= 1 << bit
    return bytes(flipped)


@pytest.mark.parametrize("folder", FOLDERS)
@settings(max_examples=20, deadline=None)
@given(
    which=st.integers(0, 1000),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.one_of(st.none(), st.integers(0, 7)),
    in_head=st.booleans(),
)
def test_damage_is_an_error_of_ours_or_another_value(
    folder: str, which: int, where: float, bit: int | None, in_head: bool
) -> None:
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # image libraries warn of what they can still read
        copy = Path(temporary) / "copy"
        shutil.copytree(FIXTURES / folder, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
        file = files[which % len(files)]
        file.write_bytes(damaged(file.read_bytes(), where, bit, in_head))
        try:
            dataset = open_foreign(copy, cache_dir=Path(temporary) / "cache")
            for row in range(min(len(dataset), 20)):
                dataset[row]
        except DataError:
            return
