"""How fast an engine answers random prompts."""

import random
import statistics
import time

from blixt.llm.engine.engine import Engine
from blixt.llm.sampling import Sampling


def bench(
    engine: Engine, *, prompt_tokens: int, max_tokens: int, batch: int, rounds: int
) -> dict[str, float]:
    """Time rounds of equal work, after one short round that warms up; see `LLM.bench`."""
    _round(engine, prompt_tokens, min(4, max_tokens), batch, seed=0)
    taken = [_round(engine, prompt_tokens, max_tokens, batch, seed=n + 1) for n in range(rounds)]
    middle = [statistics.median(values) for values in zip(*taken, strict=True)]
    seconds, cpu, ttft, drawn = middle
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "ttft_s": ttft,
        "tokens_per_s": drawn / seconds,
        "total_tokens_per_s": (drawn + batch * prompt_tokens) / seconds,
    }


def _round(
    engine: Engine, prompt_tokens: int, max_tokens: int, batch: int, seed: int
) -> tuple[float, float, float, float]:
    """Seconds, CPU seconds, mean seconds to a first token, and tokens drawn."""
    generator = random.Random(seed)
    vocab = engine.model.config.vocab
    sampling = Sampling(temperature=0, max_tokens=max_tokens, ignore_eos=True)
    for _ in range(batch):
        engine.add([generator.randrange(vocab) for _ in range(prompt_tokens)], sampling)
    began, cpu = time.perf_counter(), time.process_time()
    first: dict[str, float] = {}
    drawn = 0
    while engine.has_work:
        for update in engine.step():
            first.setdefault(update.uid, time.perf_counter() - began)
            drawn += len(update.tokens)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return seconds, cpu, statistics.fmean(first.values()), float(drawn)
