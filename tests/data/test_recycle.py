"""Memory of decoded batches is used again, and never while somebody holds an array of it."""

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import Dataset, Jpeg, Loader
from blixt.data.recycle import Recycler

from .samples import write_dataset

SHAPE = (4, 100)


def address(array: Any) -> int:
    return array.__array_interface__["data"][0]


def recycler(**options: Any) -> Recycler:
    return Recycler(**{"least_bytes": 100, **options})


def test_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    give = recycler()
    first = give(SHAPE, np.uint8)
    place, view = address(first), memoryview(first[2:, 5:])
    del first
    assert address(give(SHAPE, np.uint8)) != place
    del view
    assert address(give((100, 4), np.int8)) == place


def test_tensors_hold_their_memory() -> None:
    torch = pytest.importorskip("torch")
    give = recycler()
    held = torch.from_numpy(give(SHAPE, np.float32))[1:]
    held[...] = 7
    give(SHAPE, np.float32)[...] = 0
    assert (held == 7).all()


def test_no_more_is_kept_than_was_allowed() -> None:
    give = recycler(kept_bytes=1000)
    held = [give(SHAPE, np.uint8) for _ in range(9)]
    del held
    assert give.free_bytes == 800


def test_memory_that_is_too_small_or_much_too_large_is_let_go_of() -> None:
    give = recycler()
    for size in (100, 1000):
        give((size,), np.uint8)
        kept = give((400,), np.uint8)
        assert len(kept) == 400
        assert give.free_bytes == 0
        del kept
        assert give.free_bytes == 400
        give((400,), np.uint8)


def test_small_arrays_have_memory_of_their_own() -> None:
    array = recycler()((5, 5), np.uint8)
    assert array.base is None


def test_threads_never_get_the_same_memory() -> None:
    give = recycler(kept_bytes=1 << 30)
    wrong: list[int] = []

    def use(number: int) -> None:
        for _ in range(300):
            held = [give((200 + number,), np.uint8) for _ in range(3)]
            for place, array in enumerate(held):
                array[...] = 3 * number + place
            wrong.extend(1 for place, array in enumerate(held) if (array != 3 * number + place).any())

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_batches_that_are_kept_stay_as_they_were(tmp_path: Path, mode: Any) -> None:
    simplejpeg = pytest.importorskip("simplejpeg")
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (256, 256, 3), np.uint8)
    files = [simplejpeg.encode_jpeg(np.roll(base, 9 * i, 0), 90) for i in range(32)]
    write_dataset(tmp_path, [{"image": Jpeg(file), "x": i} for i, file in enumerate(files)])
    expected = np.stack([simplejpeg.decode_jpeg(file, "RGB") for file in files])
    for _ in range(2):
        every_other: list[Any] = []
        for number, batch in enumerate(Loader(Dataset(tmp_path), 8, mode=mode)):
            if number % 2:
                every_other.append(batch["image"][3:])  # a view; the batch itself is let go of
        gc.collect()
        for number, images in enumerate(every_other):
            low = (2 * number + 1) * 8
            assert (images == expected[low + 3 : low + 8]).all()
