"""Random samples: the same numbers whichever process loads them, and the process's own are left alone."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler
from torch.utils.data.dataloader import default_collate

from blixt.fabric import ResumableLoader, capture_rng
from blixt.fabric.samplers import shard_loader
from blixt.fabric.workers import STREAMS, Seeded


class Augmented(Dataset[Any]):
    """Draws from one generator for most samples, from others for a few."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        value = index + torch.rand(())
        if index % 5 == 3:
            value = value + random.random()
        if index == 17:
            value = value + np.random.randn()
        return value


class Named(Augmented):
    """Asked by names instead of numbers, many at a time."""

    def __getitems__(self, names: list[str]) -> list[Any]:
        return [torch.rand(()) + len(name) for name in names]


class Names(Sampler[Any]):
    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[Any]:
        return iter([f"name-{number}" for number in range(24)])


def jitter(samples: Any) -> Any:
    return default_collate(samples) + random.random()


def values(loader: Any) -> list[float]:
    return [float(value) for batch in loader for value in batch.reshape(-1)]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 5, "shuffle": True},
        {"batch_size": 5, "shuffle": True, "collate_fn": jitter},
        {"batch_size": None},
    ],
    ids=["augmented", "augmented and collated", "without batches"],
)
def test_any_number_of_workers_gives_the_same_random_samples_in_every_epoch(options: Any) -> None:
    def epochs(workers: int) -> list[list[float]]:
        torch.manual_seed(6)
        loader = ResumableLoader(DataLoader(Augmented(), num_workers=workers, **options))
        return [values(loader), values(loader)]

    alone = epochs(0)
    assert epochs(2) == alone
    assert alone[0] != alone[1]
    assert len(set(alone[0])) == 24


def test_samples_asked_for_by_name_and_many_at_a_time_are_the_same_too() -> None:
    def epoch(workers: int) -> list[float]:
        torch.manual_seed(6)
        return values(ResumableLoader(DataLoader(Named(), 4, sampler=Names(), num_workers=workers)))

    assert epoch(0) == epoch(2)


def test_loading_in_this_process_leaves_its_generators_alone() -> None:
    loader = ResumableLoader(DataLoader(Augmented(), 4))
    batches = iter(loader)
    next(batches)
    before = capture_rng()
    list(batches)
    after = capture_rng()
    assert before["python"] == after["python"]
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_gives_the_samples_that_would_have_come(workers: int) -> None:
    def make() -> ResumableLoader:
        return ResumableLoader(
            DataLoader(Augmented(), 5, shuffle=True, num_workers=workers, collate_fn=jitter)
        )

    torch.manual_seed(8)
    whole = values(make())
    torch.manual_seed(8)
    part = make()
    seen = [float(value) for _, batch in zip(range(2), part, strict=False) for value in batch]
    torch.manual_seed(999)
    again = make()
    again.load_state_dict(part.state_dict())
    assert seen + values(again) == whole


def test_persistent_workers_draw_anew_in_every_epoch_and_resume_at_its_beginning_and_within() -> None:
    def make() -> ResumableLoader:
        options: Any = {"shuffle": True, "num_workers": 1, "persistent_workers": True}
        return ResumableLoader(DataLoader(Augmented(), 5, **options))

    torch.manual_seed(6)
    whole = make()
    epochs = [values(whole) for _ in range(3)]
    assert len({*epochs[0], *epochs[1], *epochs[2]}) == 72
    torch.manual_seed(6)
    part = make()
    values(part)
    at_end, numbers = part.state_dict(), torch.get_rng_state()
    seen = [float(value) for _, batch in zip(range(2), part, strict=False) for value in batch]
    within, later = part.state_dict(), torch.get_rng_state()
    for state, random_state, before, expected in (
        (at_end, numbers, [], epochs[1:]),
        (within, later, seen, epochs[1:]),
    ):
        again = make()
        again.load_state_dict(state)
        torch.set_rng_state(random_state)
        assert [before + values(again), values(again)] == expected
    whole.close()


def test_the_samples_of_a_rank_do_not_depend_on_how_many_ranks_there_are() -> None:
    def epoch(world: int) -> dict[int, float]:
        found: dict[int, float] = {}
        for rank in range(world):
            loader = shard_loader(DataLoader(Augmented(), 4, shuffle=True), rank, world, even=True)
            ready = ResumableLoader(loader, seed=3, rank=rank)
            ready.keep_indices = True
            for batch in ready:
                found |= dict(zip(ready.indices or [], batch.tolist(), strict=True))
        return found

    assert epoch(2) == epoch(3)


class Lazy(Sampler[int]):
    """Draws each index when it is asked for."""

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[int]:
        for _ in range(20):
            yield random.randrange(24)


def test_a_sampler_that_draws_as_it_goes_can_be_resumed_in_spite_of_training_that_draws_too() -> None:
    data = torch.arange(24)

    def make() -> ResumableLoader:
        return ResumableLoader(DataLoader(data, 4, sampler=Lazy()))  # type: ignore[arg-type]

    def run(loader: Any) -> Iterator[list[int]]:
        for batch in loader:
            random.random()
            yield batch.tolist()

    random.seed(2)
    whole = list(run(make()))
    random.seed(2)
    part = make()
    seen = [batch for _, batch in zip(range(2), run(part), strict=False)]
    again = make()
    again.load_state_dict(part.state_dict())
    assert seen + list(run(again)) == whole


def test_a_generator_of_the_users_own_goes_on_where_it_was() -> None:
    def make() -> ResumableLoader:
        generator = torch.Generator().manual_seed(4)
        return ResumableLoader(DataLoader(torch.arange(20), 4, shuffle=True, generator=generator))  # type: ignore[arg-type]

    whole = make()
    epochs = [values(whole) for _ in range(3)]
    part = make()
    values(part)
    seen = [float(v) for _, batch in zip(range(2), part, strict=False) for v in batch]
    again = make()
    again.load_state_dict(part.state_dict())
    assert seen + values(again) == epochs[1]
    assert values(again) == epochs[2]


def test_the_indices_of_each_delivered_batch_are_known_on_request() -> None:
    torch.manual_seed(0)
    loader = ResumableLoader(DataLoader(torch.arange(12), 5, shuffle=True, num_workers=1))  # type: ignore[arg-type]
    loader.keep_indices = True
    assert all(batch.tolist() == loader.indices for batch in loader)


def test_a_break_begins_the_next_epoch_and_an_end_counts_once() -> None:
    loader = ResumableLoader(DataLoader(torch.arange(8), 4, sampler=RandomSampler(range(8))))  # type: ignore[arg-type]
    list(loader)
    assert loader.epoch == 1
    loader.end_epoch()
    assert loader.epoch == 1
    next(iter(loader))
    assert (loader.epoch, loader.delivered) == (1, 1)
    list(loader)
    assert (loader.epoch, loader.delivered) == (3, 0)


@pytest.mark.parametrize("stream", STREAMS, ids=["python", "numpy", "torch"])
def test_a_draw_is_seen_and_undone_in_each_of_the_three_generators(stream: Any) -> None:
    draws = {"_Python": random.random, "_NumPy": np.random.rand, "_Torch": lambda: float(torch.rand(()))}
    draw = draws[type(stream).__name__]
    stream.seed(5)
    mark = stream.mark()
    assert not stream.moved(mark)
    first = draw()
    assert stream.moved(mark)
    stream.restore(mark)
    assert draw() == first


def test_code_that_begins_to_draw_late_is_run_again_in_its_own_stream() -> None:
    calls: list[int] = []

    def call(item: int) -> float:
        calls.append(item)
        return random.random() if item >= 2 else 0.0

    def run(seeded: Seeded, items: list[int]) -> list[float]:
        return seeded.run(call, items, lambda item: item + 5)

    seeded, fresh = Seeded(), Seeded()
    assert run(seeded, [0, 1]) == [0.0, 0.0]
    late = run(seeded, [2, 3])
    assert late == run(fresh, [2, 3])
    assert calls == [0, 1, 2, 3, 2, 3, 2, 3]
