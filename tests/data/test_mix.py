"""Mixes and zips: exact shares, seekable, the same on any number of ranks, and each rule of ending."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blixt.data import DataError, Dataset, Loader, Mix, TokenDataset, Zip, split
from blixt.data.mix import Stop
from blixt.data.mix.plan import Plan
from blixt.data.mix.schedule import Turns, counts_per_period

from .loader_functions import Numbers
from .samples import write_dataset, write_stream


def everything(mix: Mix, epoch: int = 0) -> list[int]:
    return mix.order_of(epoch).at(np.arange(len(mix))).tolist()


def shares(mix: Mix) -> list[float]:
    counts = np.bincount(mix.source(np.arange(len(mix))), minlength=len(mix.datasets))
    return (counts / len(mix)).tolist()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 1], (512, 512)),
        ([0.7, 0.2, 0.1], (714, 204, 102)),
        ([3, 1], (768, 256)),
        ([1 / 3, 2 / 3], (341, 682)),
    ],
)
def test_ratios_of_small_numbers_are_exact(weights: list[float], expected: tuple[int, ...]) -> None:
    assert counts_per_period(weights) == expected


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_weights_become_counts_within_one_turn_of_their_share(weights: list[float]) -> None:
    counts = counts_per_period(weights)
    period = sum(counts)
    assert period <= 1 << 16
    assert min(counts) >= 1
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count / period - weight / sum(weights)) <= (len(weights) + 1) / 60_000


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 10))
@settings(max_examples=100, deadline=None)
def test_turns_count_what_came_before_in_any_place(counts: list[int], key: int) -> None:
    turns = Turns(counts, key)
    owners, before = turns.at(np.arange(3 * sum(counts)))
    had = [0] * len(counts)
    for turn, (owner, number) in enumerate(zip(owners.tolist(), before.tolist(), strict=True)):
        assert number == had[owner] == turns.had(owner, turn)
        assert turns.turn_of(owner, number) == turn
        had[owner] += 1
    assert had == [3 * count for count in counts]


def test_every_stretch_of_a_mix_has_the_shares_of_its_weights() -> None:
    mix = Mix([Numbers(10**6), Numbers(10**6), Numbers(10**6)], weights=[5, 3, 2], stop="first")
    for start in (0, 777, 500_000):
        counts = np.bincount(mix.source(np.arange(start, start + 1000)), minlength=3)
        assert np.abs(counts - [500, 300, 200]).max() <= 3


def test_equal_weights_give_equal_counts() -> None:
    mix = Mix([Numbers(5000), Numbers(5000)], weights=[1, 1], stop="all")
    assert shares(mix) == [0.5, 0.5]


def test_weights_need_not_sum_to_one() -> None:
    mix = Mix([Numbers(1000), Numbers(1000)], weights=[30, 70], length=10_000)
    assert shares(mix) == pytest.approx([0.3, 0.7], abs=1e-3)


def test_without_weights_sizes_decide_and_temperature_flattens_them() -> None:
    data = [Numbers(9000), Numbers(1000)]
    assert shares(Mix(data, length=10_000)) == pytest.approx([0.9, 0.1], abs=1e-3)
    assert shares(Mix(data, length=10_000, temperature=2)) == pytest.approx([0.75, 0.25], abs=1e-3)
    assert shares(Mix(data, length=10_000, temperature=1e9)) == pytest.approx([0.5, 0.5], abs=1e-3)


mixes = st.builds(
    lambda sizes, weights, stop, group, seed: Mix(
        [Numbers(size, shuffle=True, seed=n, name=str(n)) for n, size in enumerate(sizes)],
        weights=weights[: len(sizes)],
        stop=stop,
        group=group,
        seed=seed,
    ),
    st.lists(st.integers(1, 300), min_size=1, max_size=4),
    st.lists(st.floats(0.05, 5), min_size=4, max_size=4),
    st.sampled_from(["first", "all", "once"]),
    st.integers(1, 5),
    st.integers(0, 3),
)


@given(mixes)
@settings(max_examples=100, deadline=None)
def test_each_rule_of_ending_reads_what_it_says(mix: Mix) -> None:
    owner, number = mix._plan.at(np.arange(len(mix)))  # pyright: ignore[reportPrivateUsage]
    sizes = [len(dataset) for dataset in mix.datasets]
    counts = Counter(owner.tolist())
    for dataset in counts:
        assert number[owner == dataset].tolist() == list(range(counts[dataset]))
    group = mix.identity["group"]
    if mix.identity["stop"] == "once":
        assert sorted(everything(mix)) == list(range(sum(sizes)))
    elif mix.identity["stop"] == "first":
        assert all(counts[n] <= size for n, size in enumerate(sizes))
        assert any(counts[n] + group > size for n, size in enumerate(sizes))
    else:
        assert all(counts[n] >= size for n, size in enumerate(sizes))
        assert set(everything(mix)) == set(range(sum(sizes)))


@given(mixes, st.data())
@settings(max_examples=60, deadline=None)
def test_a_position_is_the_same_row_whatever_else_is_asked(mix: Mix, data: Any) -> None:
    assume(len(mix))
    some = data.draw(st.lists(st.integers(0, len(mix) - 1), max_size=20))
    assert mix.order.at(np.array(some, np.int64)).tolist() == np.array(everything(mix))[some].tolist()


def test_going_round_again_is_another_order_and_so_is_the_next_epoch() -> None:
    mix = Mix([Numbers(20, shuffle=True), Numbers(200, shuffle=True)], weights=[1, 1], stop="all")
    small = [row for row in everything(mix) if row < 20]
    rounds = [small[low : low + 20] for low in range(0, 200, 20)]
    assert all(sorted(each) == list(range(20)) for each in rounds)
    assert len({tuple(each) for each in rounds}) == 10
    again = [row for row in everything(mix, 1) if row < 20]
    assert tuple(again[:20]) not in {tuple(each) for each in rounds}


def test_a_group_keeps_batches_to_one_dataset() -> None:
    mix = Mix([Numbers(100), Numbers(300)], weights=[1, 2], stop="first", group=16)
    batches = [batch["x"] for batch in Loader(mix, 16)]
    sources = [set(mix.source(range(16 * step, 16 * step + 16)).tolist()) for step in range(len(batches))]
    assert all(len(source) == 1 for source in sources)
    assert {source for each in sources for source in each} == {0, 1}


histories = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 6), st.integers(0, 2)), max_size=5
)


def read_history(make: Any, history: Any) -> list[Any]:
    """Read an epoch with changing ranks, batch sizes and workers; return the values in global order."""
    seen: list[Any] = []
    state: Any = None
    consumed = 0
    for world, batch, steps, workers in [*history, (1, 8, None, 0)]:
        ranks: list[list[list[Any]]] = []
        for rank in range(world):
            loader = Loader(make(rank, world), batch, workers=workers, end="even")
            if state is not None:
                loader.load_state_dict(json.loads(json.dumps(state)))
            total = len(loader.dataset)
            count = 10**6 if steps is None else min(steps, (total - consumed) // (world * batch))
            ranks.append([values(part) for _, part in zip(range(count), loader, strict=False)])
            after = loader.state_dict()
        if ranks[0]:
            state, consumed = after, after["consumed"]
        seen += [x for step in zip(*ranks, strict=True) for part in step for x in part]
        if after["epoch"]:
            break
    return seen


def values(batch: Any) -> list[Any]:
    if isinstance(batch, tuple):
        return list(zip(*(values(part) for part in batch), strict=True))
    if isinstance(batch, dict) and "document" in batch:
        return [(a.tobytes(), b.tobytes()) for a, b in zip(batch["tokens"], batch["document"], strict=True)]
    if isinstance(batch, dict):
        return batch["x"].tolist()
    return [row.tobytes() for row in batch]


@given(histories, st.sampled_from(["first", "all", "once"]), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_any_history_of_topologies_gives_a_mix_the_same_rows(history: Any, stop: Stop, group: int) -> None:
    def make(rank: int, world: int) -> Mix:
        data = [Numbers(n, shuffle=True, seed=n, name=str(n)) for n in (90, 40, 17)]
        return Mix(data, weights=[4, 2, 1], stop=stop, group=group, rank=rank, world_size=world)

    mix = make(0, 1)
    bounds = np.cumsum([0, 90, 40])
    expected = [row - int(bounds[np.searchsorted(bounds, row, "right") - 1]) for row in everything(mix)]
    assert read_history(make, history) == expected


@given(histories)
@settings(max_examples=30, deadline=None)
def test_any_history_of_topologies_gives_a_zip_the_same_rows(history: Any) -> None:
    def make(rank: int, world: int) -> Zip:
        data = [Numbers(120, shuffle=True, name="a"), Numbers(50, shuffle=True, name="b")]
        return Zip(data, length="longest", shuffle=True, seed=5, rank=rank, world_size=world)

    zipped = make(0, 1)
    expected = [(a["x"], b["x"]) for a, b in zipped.items(zipped.order.at(np.arange(120)))]
    assert read_history(make, history) == expected
    assert sorted(a for a, _ in expected) == list(range(120))


@pytest.mark.parametrize("documents", ["join", "mask", "pack"])
@given(history=histories)
@settings(max_examples=15, deadline=None)
def test_any_history_of_topologies_gives_tokens_the_same_blocks(
    stream: Path, documents: Any, history: Any
) -> None:
    def make(rank: int, world: int) -> TokenDataset:
        return TokenDataset(
            stream, 16, documents=documents, shuffle=True, seed=2, rank=rank, world_size=world
        )

    data = make(0, 1)
    assert read_history(make, history) == values(data.read_batch(range(len(data))))


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stream(tmp_path_factory.mktemp("tokens"), [i % 37 for i in range(200)], chunk_bytes=800)


def test_a_mix_of_mixes_subsets_and_zips_is_a_dataset_like_any_other() -> None:
    train, _ = split(Numbers(100), [0.5, 0.5])
    inner = Mix([train, Numbers(30).subset(slice(5, 25))], stop="once")
    outer = Mix([inner, Numbers(40)], stop="once")
    assert len(outer) == 110
    seen = [sample["x"] for sample in outer]
    assert sorted(seen[:0] + seen) == sorted(
        [train[i]["x"] for i in range(50)] + [*range(5, 25)] + [*range(40)]
    )
    again = pickle.loads(pickle.dumps(outer))
    again.set_epoch(0)
    assert [sample["x"] for sample in again] == seen


def test_a_mix_tells_each_dataset_which_rows_come() -> None:
    data = [Numbers(100), Numbers(100)]
    mix = Mix(data, weights=[1, 1], stop="all")
    next(iter(Loader(mix, 8, mode="inline")))
    assert data[0].planned == sorted(data[0].planned)
    assert set(data[0].planned) == set(data[1].planned) == set(range(100))


def test_a_state_of_another_mix_is_refused() -> None:
    data = [Numbers(10), Numbers(20)]
    state = Mix(data, weights=[1, 2]).state_dict()
    with pytest.raises(DataError, match="its weights is"):
        Mix(data, weights=[1, 3]).load_state_dict(state)
    with pytest.raises(DataError, match="its mix is"):
        Mix([Numbers(10), Numbers(21)], weights=[1, 2]).load_state_dict(state)


def test_the_state_carries_the_order_of_each_dataset() -> None:
    mix = Mix([Numbers(50, shuffle=True, seed=8), Numbers(60, shuffle=True, seed=9)])
    iterator = iter(Loader(mix, 10, mode="inline"))
    next(iterator)
    state = json.loads(json.dumps(mix.state_dict()))
    rest = [batch["x"].tolist() for batch in iterator]
    other = Mix([Numbers(50), Numbers(60)])
    other.load_state_dict(state)
    assert [batch["x"].tolist() for batch in Loader(other, 10)] == rest


def test_datasets_of_different_samples_mix_one_by_one_or_in_groups_but_not_in_a_batch(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", [{"x": i} for i in range(20)])
    write_dataset(tmp_path / "b", [{"y": i} for i in range(20)])
    data = [Dataset(tmp_path / "a"), Dataset(tmp_path / "b")]
    assert len(list(Mix(data))) == 40
    with pytest.raises(DataError, match="cannot share a batch"):
        list(Loader(Mix(data), 4))
    assert len(list(Loader(Mix(data, group=4), 4))) == 10


def test_a_batch_of_several_datasets_has_every_row_in_its_place(tmp_path: Path) -> None:
    sizes = {"a": 30, "b": 20}
    for name, size in sizes.items():
        samples = [{"x": np.full(3, i), "text": f"{name}{i}", "pair": (i, [name])} for i in range(size)]
        write_dataset(tmp_path / name, samples)
    mix = Mix([Dataset(tmp_path / name, shuffle=True) for name in sizes])
    rows = [*mix]
    mix.set_epoch(0)
    texts: list[str] = []
    for batch in Loader(mix, 7, end="even"):
        texts += batch["text"]
        assert batch["x"][:, 0].tolist() == [int(text[1:]) for text in batch["text"]]
        assert batch["pair"][1][0] == [text[0] for text in batch["text"]]
    assert texts == [row["text"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1]}, "weights must be 2 positive numbers"),
        ({"weights": [1, 0]}, "weights must be 2 positive numbers"),
        ({"stop": "never"}, "stop must be one of first, all, once"),
        ({"group": 0}, "group and length must be at least 1"),
        ({"temperature": 0}, "temperature must be positive"),
    ],
)
def test_impossible_mixes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mix([Numbers(3), Numbers(4)], **arguments)
    with pytest.raises(ValueError, match="dataset 1 of the mix has no rows"):
        Mix([Numbers(3), Numbers(0)])


def add_noise(samples: tuple[Any, ...], rng: np.random.Generator) -> Any:
    return {"x": samples[0]["x"], "noise": rng.random()}


def test_a_zips_random_state_is_the_rows_own_on_any_worker() -> None:
    def read(workers: int, batch: int) -> dict[int, float]:
        zipped = Zip([Numbers(60), Numbers(60)], transform=add_noise, shuffle=True, seed=4)
        loader = Loader(zipped, batch, workers=workers, mode="processes" if workers else "inline", end="even")
        found = {
            x: n for part in loader for x, n in zip(part["x"].tolist(), part["noise"].tolist(), strict=True)
        }
        second = {
            x: n for part in loader for x, n in zip(part["x"].tolist(), part["noise"].tolist(), strict=True)
        }
        loader.close()
        assert found.keys() == second.keys()
        assert not set(found.values()) & set(second.values())  # another epoch, other noise
        return found

    assert read(0, 7) == read(2, 10)
    assert len(set(read(0, 7).values())) == 60


def test_a_zips_random_state_goes_on_under_another_topology() -> None:
    def zipped(rank: int = 0, world: int = 1) -> Zip:
        data = [Numbers(60, shuffle=True, name="a"), Numbers(40, shuffle=True, name="b")]
        transform = add_noise
        return Zip(data, length="longest", transform=transform, shuffle=True, rank=rank, world_size=world)

    def pairs(batch: Any) -> list[tuple[int, float]]:
        return list(zip(batch["x"].tolist(), batch["noise"].tolist(), strict=True))

    straight = [pair for batch in Loader(zipped(), 1) for pair in pairs(batch)]
    loader = Loader(zipped(), 9)
    begun = [pair for _, batch in zip(range(3), loader, strict=False) for pair in pairs(batch)]
    ranks: list[list[Any]] = []
    for rank in range(3):
        other = Loader(zipped(rank, 3), 4, end="even")
        other.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        ranks.append([pairs(batch) for batch in other])
    rest = [pair for step in zip(*ranks, strict=True) for part in step for pair in part]
    assert begun + rest == straight
    assert zipped()[17]["noise"] == straight[17][1]


def test_a_zip_keeps_rows_together_and_goes_round_the_shorter_one() -> None:
    pairs = [*Zip([Numbers(4), Numbers(10)], length=12)]
    assert [(a["x"], b["x"]) for a, b in pairs] == [(i % 4, i % 10) for i in range(12)]
    assert len(Zip([Numbers(4), Numbers(10)])) == 4
    shuffled = [*Zip([Numbers(100), Numbers(100)], shuffle=True)]
    assert all(a["x"] == b["x"] for a, b in shuffled)
    assert [a["x"] for a, _ in shuffled] != list(range(100))


def test_a_zip_may_be_endless() -> None:
    zipped = Zip([Numbers(7, shuffle=True)], length=float("inf"))
    assert len(zipped) == 2**40
    assert sorted(sample["x"] for (sample,) in zipped[7 * 10**9 : 7 * 10**9 + 7]) == list(range(7))


def test_a_plan_of_many_rows_costs_no_memory_per_row() -> None:
    plan = Plan([10**12, 10**12], [1, 3], stop="first", length=None, group=1, key=1)
    owner, number = plan.at(np.array([plan.total - 1, 10**11]))
    assert plan.total > 10**12
    assert number.max() < 10**12
    assert set(owner.tolist()) <= {0, 1}
