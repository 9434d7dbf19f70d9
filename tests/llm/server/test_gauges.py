"""The page that engines of several processes write to and the front reads."""

import multiprocessing

from blixt.llm.engine.metrics import LATENCY_BOUNDS_S, Stats
from blixt.llm.server.gauges import BOUNDS_S, EnginePage


def numbers(page: EnginePage) -> dict[str, float]:
    lines = [line for line in page.text('a"b').splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def work(page: EnginePage, tokens: int) -> None:
    page.claim()
    stats = Stats(running=2, blocks_total=10, generated_tokens=tokens)
    stats.ttft.add(0.3)
    stats.ttft.add(100.0)
    page.write(stats)


def test_counts_of_workers_that_ended_stay_and_what_they_ran_does_not() -> None:
    page, spawn = EnginePage.create(), multiprocessing.get_context("spawn")
    for tokens in (5, 7):
        worker = spawn.Process(target=work, args=(page, tokens))
        worker.start()
        worker.join()
        assert worker.exitcode == 0
    found = numbers(page)
    assert found['blixt_llm_generated_tokens_total{model="a\\"b"}'] == 12
    assert found['blixt_llm_running{model="a\\"b"}'] == 0
    assert found['blixt_llm_ttft_seconds_bucket{model="a\\"b",le="0.5"}'] == 2
    assert found['blixt_llm_ttft_seconds_bucket{model="a\\"b",le="+Inf"}'] == 4
    assert found['blixt_llm_ttft_seconds_count{model="a\\"b"}'] == 4


def test_what_a_live_worker_runs_counts() -> None:
    page = EnginePage.create()
    work(page, 3)
    assert numbers(page)['blixt_llm_running{model="a\\"b"}'] == 2
    assert numbers(page)['blixt_llm_blocks_total{model="a\\"b"}'] == 10


def test_the_front_knows_the_engines_buckets() -> None:
    assert BOUNDS_S == LATENCY_BOUNDS_S
