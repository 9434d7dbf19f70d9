"""Values from worker to worker."""

import os
import resource
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.serve import HTTPError
from blixt.serve.handoff import Folder, discard, pack, unpack

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(plain)
def test_a_value_arrives_as_it_was(value):
    assert unpack(pack(value)) == value


def test_arrays_arrive_whole_and_can_be_written_to(tmp_path):
    for folder in (None, str(tmp_path)):
        value = {"a": np.arange(100_000.0), "b": np.zeros((2, 0)), "text": "x"}
        payload = pack(value, folder)
        got = unpack(payload)
        assert (got["a"] == value["a"]).all()
        assert got["b"].shape == (2, 0)
        got["a"] += 1
        assert unpack(payload)["a"][0] == 0.0, "writing changed what another reader gets"


def test_a_large_value_travels_as_a_name_and_a_small_one_as_itself(tmp_path):
    assert len(pack(np.zeros(100_000), str(tmp_path))) < 500
    assert len(pack(np.zeros(10), str(tmp_path))) > 80
    assert len(os.listdir(tmp_path)) == 1


def test_a_discarded_value_is_gone_and_says_so(tmp_path):
    payload = pack(np.zeros(100_000), str(tmp_path))
    kept = unpack(payload)
    discard(payload)
    discard(payload)
    assert os.listdir(tmp_path) == []
    assert kept.sum() == 0
    with pytest.raises(HTTPError) as error:
        unpack(payload)
    assert error.value.status == 410


def test_a_large_value_travels_as_itself_where_there_is_no_room_for_it(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, before[1]))
    try:
        payload = pack(np.ones(100_000), str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []
    assert unpack(payload).sum() == 100_000


def test_a_value_that_nobody_can_wait_for_any_more_is_swept_away(tmp_path):
    folder = Folder(str(tmp_path))
    left, fresh = pack(np.zeros(100_000), folder.path), pack(np.zeros(100_000), folder.path)
    name = left[1:].decode()
    os.utime(name, (time.time() - 100, time.time() - 100))
    folder.sweep(90)
    assert not os.path.exists(name)
    assert unpack(fresh).sum() == 0
    folder.close()


def test_what_cannot_be_pickled_is_an_error_at_once():
    with pytest.raises(Exception, match="pickle"):
        pack(lambda: None)


def test_a_folder_goes_with_its_server_and_one_that_was_left_behind_goes_with_the_next(tmp_path):
    base = str(tmp_path)
    kept = Folder(base)
    pack(np.zeros(100_000), kept.path)
    (tmp_path / "blixt-serve-left").mkdir()
    (tmp_path / "blixt-serve-left" / "value").write_bytes(b"x")
    other = Folder(base)
    assert sorted(os.listdir(base)) == sorted(os.path.basename(f.path) for f in (kept, other))
    assert len(os.listdir(kept.path)) == 1
    for folder in (kept, other):
        folder.close()
        folder.close()
    assert os.listdir(base) == []
