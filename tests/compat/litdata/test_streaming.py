"""LitData's datasets and loader on blixt: the names, arguments and behaviours that its users rely on."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from blixt.compat.litdata import (
    CombinedStreamingDataset,
    ParallelStreamingDataset,
    StreamingDataLoader,
    StreamingDataset,
    TokensLoader,
    UnsupportedArgument,
    optimize,
    train_test_split,
)
from blixt.compat.litdata.core.base import Part
from blixt.compat.litdata.core.places import store_arguments
from compat.litdata import recipes

FIXTURES = Path(__file__).parents[2] / "data" / "foreign" / "fixtures"


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("numbers"))
    optimize(recipes.number, list(range(50)), folder, chunk_size=10, num_workers=0)
    return folder


def as_list(batch: list[Any]) -> list[Any]:
    return batch


def loader(dataset: Any, batch_size: int = 4, **options: Any) -> StreamingDataLoader:
    return StreamingDataLoader(dataset, batch_size=batch_size, collate_fn=as_list, **options)


def test_length_index_slice_and_iteration(numbers: str) -> None:
    dataset = StreamingDataset(numbers)
    assert len(dataset) == len(iter(dataset)) == 50
    assert (dataset[7], dataset[-1], dataset[2:5]) == (7, 49, [2, 3, 4])
    assert list(dataset) == list(range(50))


def test_an_index_is_the_stored_number_even_with_shuffle(numbers: str) -> None:
    dataset = StreamingDataset(numbers, shuffle=True)
    assert dataset[7] == 7
    first, second = list(dataset), list(dataset)
    assert first == second != list(range(50))
    dataset.set_epoch(2)
    assert sorted(dataset) == sorted(first)
    assert list(dataset) != first


@pytest.mark.parametrize(("drop_last", "lengths"), [(True, [12, 12, 12, 12]), (False, [12, 12, 13, 13])])
def test_ranks_share_an_epoch_without_overlap(
    drop_last: bool, lengths: list[int], numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    found: list[list[int]] = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        dataset = StreamingDataset(numbers, shuffle=True, drop_last=drop_last)
        found.append(list(dataset))
        assert len(dataset) == len(found[-1])
    assert sorted(map(len, found)) == lengths
    assert len({number for part in found for number in part}) == sum(lengths)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_same_with_any_number_of_workers(workers: int, numbers: str) -> None:
    expected = list(loader(StreamingDataset(numbers, shuffle=True)))
    batches = loader(StreamingDataset(numbers, shuffle=True), num_workers=workers)
    assert len(batches) == 13
    assert list(batches) == expected
    assert list(batches) != expected  # another epoch


@pytest.mark.parametrize("persistent", [False, True])
def test_a_state_goes_on_with_other_batch_sizes_and_workers(persistent: bool, numbers: str) -> None:
    whole = [x for batch in loader(StreamingDataset(numbers, shuffle=True)) for x in batch]
    first = loader(StreamingDataset(numbers, shuffle=True), num_workers=2, persistent_workers=persistent)
    batches = iter(first)
    begun = [x for _ in range(5) for x in next(batches)]
    state = first.state_dict()
    resumed = loader(StreamingDataset(numbers), batch_size=7, num_workers=1, persistent_workers=persistent)
    resumed.load_state_dict(state)
    assert begun + [x for batch in resumed for x in batch] == whole
    assert len([x for batch in resumed for x in batch]) == 50
    assert resumed.current_epoch == first.current_epoch + 1


def test_a_state_of_other_data_is_refused(numbers: str, tmp_path: Path) -> None:
    optimize(recipes.number, [1, 2], str(tmp_path), chunk_size=2, num_workers=0)
    with pytest.raises(Exception, match="other data"):
        StreamingDataset(str(tmp_path)).load_state_dict(StreamingDataset(numbers).state_dict(3, 0, 1))


def test_samples_have_the_values_that_were_written(tmp_path: Path) -> None:
    optimize(recipes.sample, list(range(9)), str(tmp_path), chunk_bytes="1MB", num_workers=2)
    dataset = StreamingDataset(str(tmp_path))
    for i in range(9):
        sample, expected = dataset[i], recipes.sample(i)
        assert torch.equal(sample.pop("tensor"), expected.pop("tensor"))
        assert np.array_equal(sample.pop("array"), expected.pop("array"))
        assert sample == expected


def test_images_come_as_litdata_gives_them(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image.fromarray(pixels).save(tmp_path / "a.jpg")

    def sample(_: int) -> dict[str, Any]:
        return {
            "jpeg": image.open(tmp_path / "a.jpg"),
            "pil": image.fromarray(pixels),
            "path": str(tmp_path / "a.jpg"),
        }

    optimize(sample, [0], str(tmp_path / "out"), chunk_size=1, num_workers=0)
    found = StreamingDataset(str(tmp_path / "out"))[0]
    assert (found["jpeg"].shape, found["jpeg"].dtype) == ((3, 4, 6), torch.uint8)
    assert np.array_equal(np.asarray(found["pil"]), pixels)
    assert torch.equal(found["path"], found["jpeg"])


def test_tokens_are_read_in_blocks(tmp_path: Path) -> None:
    optimize(
        recipes.document,
        list(range(20)),
        str(tmp_path),
        chunk_size=40,
        num_workers=0,
        item_loader=TokensLoader(),
    )
    dataset = StreamingDataset(str(tmp_path), item_loader=TokensLoader(block_size=7))
    assert len(dataset) == 200 // 7
    assert torch.equal(dataset[1], torch.arange(7, 14, dtype=torch.int32))


@pytest.mark.parametrize("version", ["0.2.30", "0.2.76"])
def test_folders_that_litdata_wrote_are_read(version: str, tmp_path: Path) -> None:
    folder = FIXTURES / f"litdata-{version}"
    sample = StreamingDataset(str(folder / "tree"), cache_dir=str(tmp_path))[3]
    assert torch.equal(sample["matrix"], torch.full((2, 3), 3.0))
    assert torch.equal(sample["vector"], torch.arange(4))
    assert (sample["jpeg"].shape, sample["pil"].size) == ((3, 4, 6), (6, 4))
    tokens = StreamingDataset(str(folder / "tokens"), item_loader=TokensLoader(5), cache_dir=str(tmp_path))
    assert torch.equal(tokens[0], torch.arange(5, dtype=torch.int32))


def test_mds_and_parquet_are_read(tmp_path: Path) -> None:
    assert StreamingDataset(str(FIXTURES / "mds" / "gz"), cache_dir=str(tmp_path))[2] == {
        "id": 2,
        "text": "blåblå",
    }
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.Table.from_pylist([{"id": i} for i in range(5)]), tmp_path / "a.parquet")
    assert [sample["id"] for sample in StreamingDataset(f"{tmp_path}/*.parquet")] == [0, 1, 2, 3, 4]


class Doubling(StreamingDataset):
    """Overrides `__getitem__`, as many users do."""

    def __getitem__(self, index: Any) -> Any:
        return 2 * super().__getitem__(index)


def test_hooks_of_a_subclass_and_transforms_are_applied(numbers: str) -> None:
    assert list(Doubling(numbers))[:3] == [0, 2, 4]
    steps: list[Callable[[int], int]] = [lambda x: x + 1, lambda x: x * 10]
    assert StreamingDataset(numbers, transform=steps)[2] == 30


def test_subsample_subset_and_split_share_no_sample(numbers: str) -> None:
    assert list(StreamingDataset(numbers, subsample=0.3)) == list(range(15))
    assert list(StreamingDataset(numbers, subsample=1.1)) == [*range(50), 0, 1, 2, 3, 4]
    some = list(StreamingDataset(numbers, subsample=0.3, shuffle=True))
    assert len(set(some)) == 15
    assert sorted(some) != list(range(15))
    assert list(StreamingDataset(numbers).subset([5, 3])) == [5, 3]
    parts = train_test_split(StreamingDataset(numbers), [0.7, 0.2, 0.0])
    assert [len(part) for part in parts] == [35, 10, 0]
    assert len({number for part in parts for number in part}) == 45
    assert [len(part) for part in train_test_split(StreamingDataset(numbers), [0.01, 0.98, 0.01])] == [
        0,
        49,
        0,
    ]
    first, second = train_test_split(StreamingDataset(numbers), [0.5, 0.5], shuffle=False)
    assert [*first, *second] == list(range(50))
    with pytest.raises(ValueError, match="sum must be less than 1"):
        train_test_split(StreamingDataset(numbers), [0.7, 0.7])


def test_a_mix_takes_every_sample_once_or_stops_at_the_first_end(numbers: str) -> None:
    def pair() -> list[StreamingDataset]:
        return [StreamingDataset(numbers), StreamingDataset(numbers, transform=lambda x: -x)]

    whole = CombinedStreamingDataset(pair())
    assert len(whole) == 100
    assert sorted(whole) == sorted([*range(50), *(-i for i in range(50))])
    shares = CombinedStreamingDataset(pair(), weights=[0.75, 0.25], iterate_over_all=False)
    with pytest.raises(TypeError):
        len(shares)
    assert 60 <= len(list(shares)) <= 70
    only = CombinedStreamingDataset(pair(), weights=[1, 0], iterate_over_all=False)
    assert list(only) == list(range(50))
    with pytest.raises(ValueError, match="iterate_over_all"):
        CombinedStreamingDataset(pair(), weights=[1, 1])
    with pytest.raises(RuntimeError, match="StreamingDataset"):
        CombinedStreamingDataset([[1, 2]])  # type: ignore[list-item]


def test_per_stream_batches_are_of_one_dataset_and_a_mix_resumes(numbers: str) -> None:
    datasets = [StreamingDataset(numbers), StreamingDataset(numbers, transform=lambda x: x + 1000)]
    mixed = loader(CombinedStreamingDataset(datasets, batching_method="per_stream"), 5)
    batches = iter(mixed)
    begun = [next(batches) for _ in range(6)]
    state = mixed.state_dict()
    rest = list(batches)
    assert all(len({x >= 1000 for x in batch}) == 1 for batch in begun + rest)
    again = loader(CombinedStreamingDataset(datasets, batching_method="per_stream"), 5)
    again.load_state_dict(state)
    assert list(again) == rest


def test_parallel_samples_are_tuples_with_generators_that_repeat(numbers: str) -> None:
    datasets = [StreamingDataset(numbers, shuffle=True), StreamingDataset(numbers)]

    def join(samples: tuple[int, int], rngs: dict[str, Any]) -> tuple[Any, ...]:
        return (*samples, rngs["random"].random(), float(torch.rand(1, generator=rngs["torch"])))

    first = list(ParallelStreamingDataset(datasets, transform=join))
    assert len(first) == 50
    assert [sample[1] for sample in first] == list(range(50))
    assert list(ParallelStreamingDataset(datasets, transform=join)) == first
    assert len({sample[2] for sample in first}) == 50


@pytest.mark.parametrize(("length", "kinds"), [(None, (False, False)), (30, (True, False))])
def test_a_parallel_dataset_says_whether_it_goes_round(
    length: int | None, kinds: tuple[bool, bool], numbers: str
) -> None:
    dataset = ParallelStreamingDataset([StreamingDataset(numbers)], length=length)
    assert (dataset.is_cycling(), dataset.is_infinite()) == kinds
    assert ParallelStreamingDataset([StreamingDataset(numbers)], length=float("inf")).is_infinite()


def test_options_of_a_boto_session_are_credentials() -> None:
    session = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "eu-north-1"}
    assert store_arguments(session) == {
        "credentials": {"access_key_id": "a", "secret_access_key": "b"},
        "options": {"region": "eu-north-1"},
    }
    with pytest.raises(UnsupportedArgument, match=r"storage_options\['profile_name'\]"):
        StreamingDataset("s3://x", session_options={**session, "profile_name": "me"})


def draw(samples: tuple[int, ...], rngs: dict[str, Any]) -> float:
    return rngs["random"].random()


@pytest.mark.parametrize(
    ("length", "resume", "same"), [(None, True, True), (7, True, False), (7, False, True)]
)
def test_generators_are_reset_where_an_epoch_does_not_go_on(
    length: int | None, resume: bool, same: bool, numbers: str
) -> None:
    datasets = [StreamingDataset(numbers)]
    dataset = ParallelStreamingDataset(
        datasets, length=length, resume=resume, transform=draw, reset_rngs=True
    )
    batches = loader(dataset, 5)
    assert (list(batches) == list(batches)) is same


@pytest.mark.parametrize("resume", [True, False])
def test_a_parallel_epoch_of_given_length_goes_on_or_repeats(resume: bool, numbers: str) -> None:
    dataset = ParallelStreamingDataset([StreamingDataset(numbers)], length=30, resume=resume)
    batches = loader(dataset, 10)
    epochs = [[x for batch in batches for (x,) in batch] for _ in range(2)]
    assert epochs[0] == list(range(30))
    assert epochs[1] == ([*range(30, 50), *range(10)] if resume else epochs[0])


def test_default_batches_are_torchs(numbers: str) -> None:
    assert torch.equal(
        next(iter(StreamingDataLoader(StreamingDataset(numbers), batch_size=3))), torch.arange(3)
    )


def test_it_travels_to_another_process(numbers: str) -> None:
    assert list(pickle.loads(pickle.dumps(StreamingDataset(numbers)))) == list(range(50))


def test_what_is_missing_and_what_is_not_supported_is_said(numbers: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="The provided dataset path"):
        StreamingDataset(str(tmp_path / "nope"))
    with pytest.raises(ValueError, match="The provided dataset"):
        StreamingDataset(str(tmp_path))
    with pytest.raises(UnsupportedArgument, match="storage_options"):
        StreamingDataset(numbers, session_options={"x": 1})
    with pytest.raises(ValueError, match="Shuffle should be a boolean"):
        StreamingDataset(numbers, shuffle=1)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="either an instance of StreamingDataset"):
        StreamingDataLoader([1, 2, 3])


@pytest.mark.parametrize("drop_last", [True, False])
def test_parts_of_an_epoch_are_disjoint_and_positions_count_back(drop_last: bool) -> None:
    for total, batch, world in [(101, 4, 3), (7, 2, 4), (64, 8, 2), (5, 8, 1)]:
        parts = [Part(total, batch, world, rank, drop_last) for rank in range(world)]
        seen = [list(range(*part.positions(0, step))) for part in parts for step in range(part.steps(0))]
        flat = [position for run in seen for position in run]
        assert sorted(flat) == list(range(parts[0].usable))
        for part in parts:
            count = part.count(0, part.usable)
            assert part.consumed_after(0, count) == part.usable
            assert part.consumed_after(0, min(batch, count)) <= part.usable
