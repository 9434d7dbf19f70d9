"""Seeds, rank-zero helpers, throughput and FLOPs."""

import os
import random
from typing import Any

import lightning.fabric.utilities.throughput as theirs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blixt.fabric import (
    ConfigError,
    CSVLogger,
    Fabric,
    Throughput,
    ThroughputMonitor,
    get_available_flops,
    isolate_rng,
    measure_flops,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
    reset_seed,
    seed_everything,
    seed_worker,
)
from blixt.fabric.flops import flops_of_chip


@pytest.fixture(autouse=True)
def _seeds_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PL_GLOBAL_SEED", "BLIXT_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_a_seed_sets_all_generators_and_is_seen_by_children(capsys: pytest.CaptureFixture[str]) -> None:
    assert seed_everything(5, workers=True, verbose=True) == 5
    assert "seed set to 5" in capsys.readouterr().out
    assert (os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"]) == ("5", "1")
    first = draw()
    reset_seed()
    assert draw() == first
    os.environ["PL_GLOBAL_SEED"] = "6"
    assert seed_everything() == 6
    assert draw() != first


def test_a_seed_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="32-bit"):
        seed_everything(2**32)
    monkeypatch.setenv("PL_GLOBAL_SEED", "x")
    with pytest.raises(ConfigError, match="a whole number"):
        seed_everything()
    monkeypatch.setenv("PL_GLOBAL_SEED", "")
    with pytest.warns(UserWarning, match="0 is used"):
        assert seed_everything(verbose=True) == 0


def test_seeding_gives_lightnings_numbers() -> None:
    import lightning.fabric

    lightning.fabric.seed_everything(11, verbose=False)
    expected = draw()
    seed_everything(11)
    assert draw() == expected


def test_what_is_drawn_in_isolation_leaves_no_trace() -> None:
    seed_everything(1)
    with isolate_rng():
        draw()
    after = draw()
    seed_everything(1)
    assert draw() == after
    with isolate_rng(True):
        draw()


def test_every_worker_of_every_rank_draws_its_own_numbers() -> None:
    drawn: set[tuple[float, ...]] = set()
    for worker in range(3):
        for rank in range(3):
            torch.manual_seed(7 + worker)  # as torch seeds its workers
            seed_worker(worker, rank)
            drawn.add(tuple(draw()))
    assert len(drawn) == 9


def test_rank_zero_helpers_are_silent_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert rank_zero_only(lambda: 3)() is None
    assert rank_zero_only(lambda: 3, default=4)() == 4
    rank_zero_warn("unheard")
    monkeypatch.setattr(rank_zero_only, "rank", None)
    monkeypatch.setenv("RANK", "0")
    assert rank_zero_only(lambda: 3)() == 3
    with caplog.at_level("INFO", logger="blixt"):
        rank_zero_info("heard")
    with pytest.warns(UserWarning, match="heard"):
        rank_zero_warn("heard")
    assert caplog.messages == ["heard"]
    monkeypatch.setenv("RANK", "2")
    assert rank_zero_only(lambda: 3)() is None


# --- throughput -----------------------------------------------------------------------------------

UPDATES = st.lists(
    st.tuples(
        st.floats(0.01, 10), st.integers(1, 4), st.integers(1, 16), st.integers(1, 64), st.integers(1, 10**12)
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(UPDATES, st.integers(2, 5), st.integers(1, 3), st.booleans())
def test_rates_are_lightnings(updates: list[Any], window: int, world: int, whole: bool) -> None:
    ours = Throughput(1e12, world, window, "-")
    reference = theirs.Throughput(1e12, world, window, "-")
    now, batches, samples, lengths = 0.0, 0, 0, 0
    for seconds, more_batches, per_batch, per_sample, flops in updates:
        now, batches = now + seconds, batches + more_batches
        samples += more_batches * per_batch
        lengths += more_batches * per_batch * per_sample
        counters: dict[str, Any] = {"time": now, "batches": batches, "samples": samples}
        if whole:
            counters.update(lengths=lengths, flops=flops)
        ours.update(**counters)
        reference.update(**counters)
        assert ours.compute() == pytest.approx(reference.compute())
    ours.reset()
    assert ours.compute() == {}


def test_counters_that_do_not_grow_are_refused() -> None:
    throughput = Throughput()
    throughput.update(time=1.0, batches=1, samples=1)
    with pytest.raises(ConfigError, match="counts from the beginning"):
        throughput.update(time=1.0, batches=2, samples=2)
    with pytest.raises(ConfigError, match="Count all samples"):
        throughput.update(time=2.0, batches=3, samples=2)
    with pytest.raises(ConfigError, match="Count all items"):
        throughput.update(time=2.0, batches=2, samples=2, lengths=1)
    assert throughput.compute() == {"time": 1.0, "batches": 1, "samples": 1}
    for options in ({"world_size": 0}, {"window_size": 1}):
        with pytest.raises(ConfigError):
            Throughput(**options)  # type: ignore[arg-type]


def test_a_monitor_logs_what_it_computes(tmp_path: Any) -> None:
    logger = CSVLogger(tmp_path, version="run")
    run = Fabric(accelerator="cpu", devices=1, loggers=logger)
    monitor = ThroughputMonitor(run, window_size=2)
    for step in (1, 2):
        monitor.update(time=0.5 * step, batches=step, samples=4 * step)
        metrics = monitor.compute_and_log()
    assert (monitor.step, metrics["device/samples_per_sec"]) == (1, 8.0)
    logger.finalize("success")
    assert "device/samples_per_sec" in (tmp_path / "logs" / "run" / "metrics.csv").read_text()


def test_flops_are_counted_without_touching_gradients() -> None:
    with torch.device("meta"):
        model, x = nn.Linear(32, 16), torch.empty(4, 32)
    forward = 2 * 4 * 32 * 16
    assert measure_flops(model, lambda: model(x)) == forward
    assert measure_flops(model, lambda: model(x), lambda y: y.sum()) == 2 * forward
    assert theirs.measure_flops(model, lambda: model(x), lambda y: y.sum()) == 2 * forward
    assert model.weight.grad is not None  # Lightning's leaves them
    model.weight.grad = None
    measure_flops(model, lambda: model(x), lambda y: y.sum())
    assert model.weight.grad is None


@pytest.mark.parametrize(
    ("name", "dtype", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989.4),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756),
        ("NVIDIA H100 NVL", torch.float16, 835.5),
        ("NVIDIA H200", torch.float8_e4m3fn, 1978.9),
        ("NVIDIA A100-SXM4-80GB", torch.bfloat16, 312),
        ("NVIDIA L4", torch.bfloat16, 121),
        ("NVIDIA L40S", torch.bfloat16, 362),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, 165.2),
        ("Tesla T4", torch.float16, 65),
        ("Tesla V100-SXM2-16GB", torch.float16, 125),
        ("AMD Instinct MI300X", torch.bfloat16, 1307.4),
    ],
)
def test_the_peak_of_a_chip_is_known_by_the_name_that_drivers_give_it(
    name: str, dtype: torch.dtype, tera: float
) -> None:
    assert flops_of_chip(name, dtype) == pytest.approx(tera * 1e12)


def test_an_unknown_chip_or_type_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="how fast 'Abacus 9' is"):
        assert flops_of_chip("Abacus 9", torch.float32) is None
    with pytest.warns(UserWarning, match="in torch.bfloat16"):
        assert flops_of_chip("Tesla T4", torch.bfloat16) is None
    assert get_available_flops(torch.device("cpu"), torch.float32) is None
