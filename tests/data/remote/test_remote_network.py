"""A bad network: the same samples, a bounded number of tries, then a clear error."""

import random
from typing import Any

import numpy as np
import pytest

from blixt.data import Dataset, Loader
from blixt.data.store import UnavailableError

from ..samples import same
from ..servers.faulty import Fault, FaultyProxy
from .places import ROWS, SPAWN, photo


def test_a_network_with_every_fault_gives_the_same_samples(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    dice = random.Random(1)
    faults: tuple[Fault, ...] = ("503", "500", "429", "drop", "short", "lie", "reset")
    # one damage, since two might meet the same block; and tries enough for one request that meets all of them
    proxy.faults.extend([*(dice.choice(faults) for _ in range(10)), "corrupt"])
    proxy.faults.extend(dice.choice(faults) for _ in range(9))
    access["options"]["tries"] = "30"
    dataset = Dataset(location, shuffle=True, **access)
    labels = [label for batch in Loader(dataset, 50) for label in batch["label"].tolist()]
    assert sorted(labels) == list(range(ROWS))
    again = Dataset(location, **access)
    assert all(same(again[i], photo(i)) for i in range(0, ROWS, 7))
    assert len([request for request in proxy.requests if request.fault]) >= 12


def test_a_slow_answer_is_given_up_and_asked_for_again(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    access["options"]["timeout_s"] = "2"
    proxy.faults.append("stall")
    assert same(Dataset(location, **access)[0], photo(0))


def test_a_store_that_is_down_is_an_error_after_a_bounded_number_of_tries(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    access["options"]["tries"] = "2"
    dataset = Dataset(location, **access)
    proxy.always = "503"
    with pytest.raises(UnavailableError, match=r"s3://test/.*\.shard: .*tried 2 times"):
        dataset[0]
    assert len(proxy.gets(".shard")) == 2
    proxy.always = None
    assert same(dataset[0], photo(0))


def test_a_process_may_end_while_it_fetches_ahead(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    proxy.always = "stall"
    process = SPAWN.Process(target=plan_and_end, args=(location, access))
    process.start()
    process.join(300)
    assert process.exitcode == 0


def test_an_epoch_that_was_left_does_not_hinder_the_next(location: str, access: dict[str, Any]) -> None:
    dataset = Dataset(location, shuffle=True, **access)
    for _ in range(4):
        for _ in zip(range(2), Loader(dataset, 16), strict=False):
            pass
    assert sorted(sample["label"] for sample in dataset) == list(range(ROWS))


def plan_and_end(location: str, access: dict[str, Any]) -> None:
    access["options"]["timeout_s"] = "60"
    Dataset(location, **access).plan_ahead(np.arange(ROWS))
