"""Datasets work in torch's DataLoader, and our own loader gives tensors with exact resume."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from blixt.data import Dataset, TokenDataset  # noqa: E402
from blixt.data.torch import DataLoader, IterableDataset  # noqa: E402

from .samples import mixed, write_dataset, write_stream  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stream(tmp_path_factory.mktemp("tokens"), [2001])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_token_dataset_is_a_map_style_dataset(folder: Path, workers: int) -> None:
    loader = torch.utils.data.DataLoader(TokenDataset(folder, 10), batch_size=8, num_workers=workers)
    batches = list(loader)
    assert torch.is_tensor(batches[0])
    assert torch.cat(batches)[:, 0].tolist() == list(range(0, 2000, 10))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_iterable_form_gives_each_item_once_whatever_the_workers(folder: Path, workers: int) -> None:
    dataset = IterableDataset(TokenDataset(folder, 10, shuffle=True))
    assert isinstance(dataset, torch.utils.data.IterableDataset)
    loader = torch.utils.data.DataLoader(dataset, batch_size=8, num_workers=workers)
    assert sorted(torch.cat(list(loader))[:, 0].tolist()) == list(range(0, 2000, 10))


def test_the_iterable_form_shares_items_among_ranks(folder: Path) -> None:
    ranks = [IterableDataset(TokenDataset(folder, 10, rank=rank, world_size=2)) for rank in range(2)]
    items = [[int(item[0]) for item in rank] for rank in ranks]
    assert items == [list(range(0, 2000, 20)), list(range(10, 2000, 20))]


def test_the_iterable_form_resumes_at_the_next_sample(folder: Path) -> None:
    dataset = IterableDataset(TokenDataset(folder, 10, shuffle=True))
    iterator = iter(dataset)
    begun = [int(next(iterator)[0]) for _ in range(33)]
    resumed = IterableDataset(TokenDataset(folder, 10))
    resumed.load_state_dict(dataset.state_dict())
    dataset.set_epoch(1)
    dataset.set_epoch(0)
    assert begun + [int(item[0]) for item in resumed] == [int(item[0]) for item in dataset]


@pytest.mark.parametrize("workers", [0, 2])
def test_our_loader_gives_the_same_batches_with_and_without_workers_and_resumes(
    folder: Path, workers: int
) -> None:
    loader = DataLoader(TokenDataset(folder, 10, shuffle=True, seed=5), 16, num_workers=0)
    whole = [batch.tolist() for batch in loader]
    other = DataLoader(TokenDataset(folder, 10, shuffle=True, seed=5), 16, num_workers=workers)
    iterator = iter(other)
    begun = [next(iterator).tolist() for _ in range(4)]
    resumed = DataLoader(TokenDataset(folder, 10), 16, num_workers=workers)
    resumed.load_state_dict(other.state_dict())
    rest = list(resumed)
    assert torch.is_tensor(rest[0])
    assert rest[0].dtype == torch.int64
    assert begun + [batch.tolist() for batch in rest] == whole


def test_a_batch_of_samples_becomes_tensors_where_it_can(tmp_path: Path) -> None:
    write_dataset(tmp_path, [mixed(i) for i in range(10)])
    batch = next(iter(DataLoader(Dataset(tmp_path), 4)))
    assert batch["pixels"].shape == (4, 2, 3)
    assert batch["text"] == [mixed(i)["text"] for i in range(4)]
