"""Datasets work in torch's DataLoader, and our own loader gives tensors with exact resume."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from blixt.data import Dataset, DatasetWriter, Loader, TokenDataset  # noqa: E402
from blixt.data.torch import BatchSampler, DataLoader, IterableDataset  # noqa: E402

from . import loader_functions as functions  # noqa: E402
from .loader_functions import Numbers  # noqa: E402
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


@pytest.mark.parametrize(("context", "persistent"), [("fork", False), ("forkserver", True), ("spawn", True)])
def test_a_map_style_dataset_lives_in_torchs_loader_however_its_workers_start(
    folder: Path, context: str, persistent: bool
) -> None:
    dataset = TokenDataset(folder, 10, shuffle=True, seed=3)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=8, num_workers=1, multiprocessing_context=context, persistent_workers=persistent
    )
    for _ in range(2 if persistent else 1):
        batches = list(loader)
        assert torch.cat(batches)[:, 0].tolist() == [int(dataset[i][0]) for i in range(200)]


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("forkserver", 1), ("spawn", 1)])
def test_the_iterable_form_goes_to_the_next_epoch_in_persistent_workers(
    folder: Path, context: str, workers: int
) -> None:
    dataset = IterableDataset(TokenDataset(folder, 10, shuffle=True), batch_size=8)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    epochs = [torch.cat(list(loader))[:, 0].tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(0, 2000, 10))
    assert epochs[0] != epochs[1]
    straight = TokenDataset(folder, 10, shuffle=True)
    assert epochs == [[int(item[0]) for item in straight] for _ in range(2)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_of_the_iterable_form_arrive_in_order_and_resume_with_any_workers(
    folder: Path, workers: int
) -> None:
    def loader(dataset: Any, workers: int) -> Any:
        return torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)

    whole = [
        batch.tolist() for batch in loader(IterableDataset(TokenDataset(folder, 10, shuffle=True), 16), 0)
    ]
    dataset = IterableDataset(TokenDataset(folder, 10, shuffle=True), 16)
    begun = [batch.tolist() for _, batch in zip(range(5), loader(dataset, workers), strict=False)]
    state = dataset.state_dict(5) if workers else dataset.state_dict()
    resumed = IterableDataset(TokenDataset(folder, 10), 16)
    resumed.load_state_dict(state)
    assert begun + [batch.tolist() for batch in loader(resumed, 2 - workers)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_sampler_gives_torchs_loader_our_order_and_an_exact_state(folder: Path, workers: int) -> None:
    def loader(sampler: Any) -> Any:
        return torch.utils.data.DataLoader(sampler.dataset, batch_sampler=sampler, num_workers=workers)

    straight = [batch.tolist() for batch in DataLoader(TokenDataset(folder, 10, shuffle=True), 16)]
    sampler = BatchSampler(TokenDataset(folder, 10, shuffle=True), 16)
    begun = [batch.tolist() for _, batch in zip(range(4), loader(sampler), strict=False)]
    resumed = BatchSampler(TokenDataset(folder, 10), 16)
    resumed.load_state_dict(sampler.state_dict(batches=4))
    assert begun + [batch.tolist() for batch in loader(resumed)] == straight
    assert len(sampler) == len(straight)


def test_a_batch_sampler_shares_batches_among_ranks(folder: Path) -> None:
    ranks = [
        BatchSampler(TokenDataset(folder, 10, rank=rank, world_size=2), 8, end="even") for rank in range(2)
    ]
    batches = [list(rank) for rank in ranks]
    assert [i for step in zip(*batches, strict=True) for part in step for i in part] == list(range(200))


def test_transforms_may_return_tensors_from_processes() -> None:
    loader = DataLoader(Numbers(40), 8, num_workers=2, transform=functions.to_tensor)
    with pytest.warns(UserWarning, match=r"\.half is a torch.bfloat16 tensor on cpu"):
        batches = list(loader)
    assert torch.cat([batch["t"] for batch in batches]).tolist() == list(range(40))
    assert batches[0]["half"].dtype == torch.bfloat16
    loader.close()


def test_a_dataset_in_a_store_works_in_torchs_loader_with_forkserver(s3: Any, cache_dir: Path) -> None:
    location = s3.location()
    with DatasetWriter(location, credentials=s3.credentials, options=s3.options) as writer:
        for i in range(50):
            writer.write({"x": i})
    dataset = Dataset(location, credentials=s3.credentials, options=s3.options)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=10, num_workers=1, multiprocessing_context="forkserver"
    )
    assert torch.cat([batch["x"] for batch in loader]).tolist() == list(range(50))
    ours = Loader(dataset, 10, workers=2, mode="processes")
    assert [x for batch in ours for x in batch["x"].tolist()] == list(range(50))
    ours.close()


def run_program(*arguments: Any, **environment: str) -> "subprocess.Popen[bytes]":
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.data.torch_programs", *map(str, arguments)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 0, output.decode()


def test_lightning_resumes_in_the_middle_of_an_epoch(folder: Path, tmp_path: Path) -> None:
    """Takes as long as importing Lightning. It stops after 9 steps and then after 30; an epoch is 25."""
    pytest.importorskip("lightning")
    finish([run_program("lightning", folder, tmp_path, tmp_path / "seen")])
    seen = [json.loads(line) for line in (tmp_path / "seen-0").read_text().splitlines()]
    straight = DataLoader(TokenDataset(folder, 10, shuffle=True, seed=5), 8)
    expected = [batch[:, 0].tolist() for _ in range(2) for batch in straight]
    assert seen == expected[:30]


def test_two_processes_under_accelerate_read_each_row_once(folder: Path, tmp_path: Path) -> None:
    """Takes as long as importing accelerate twice."""
    pytest.importorskip("accelerate")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        for rank in range(2)
    ]
    finish(
        [
            run_program(
                "accelerate",
                folder,
                tmp_path / "seen",
                **rank,
                MASTER_PORT=str(port),
                ACCELERATE_USE_CPU="true",
            )
            for rank in ranks
        ]
    )
    for form in ("ours", "map", "iterable"):
        parts = [json.loads((tmp_path / f"seen-{form}-{rank}").read_text()) for rank in range(2)]
        assert len(parts[0]) == len(parts[1])
        assert set(parts[0]) | set(parts[1]) == set(range(0, 2000, 10))
        assert len(parts[0]) + len(parts[1]) - 200 <= 8  # accelerate fills the last batch up
