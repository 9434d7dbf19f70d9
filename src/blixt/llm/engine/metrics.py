"""What the engine did and how long requests waited, as plain numbers."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.llm.engine.speculative import SpeculationStats

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Distribution:
    """Counts of values by size, as Prometheus keeps histograms.

    Attributes:
        bounds: Upper bounds of the buckets, in seconds; what is above the last only counts in the total.
        counts: Values at most as large as each bound and larger than the one before.
        count: How many values.
        sum_s: Their sum.
    """

    bounds: tuple[float, ...] = LATENCY_BOUNDS_S
    counts: list[int] = field(default_factory=lambda: [0] * len(LATENCY_BOUNDS_S))
    count: int = 0
    sum_s: float = 0.0

    def add(self, value: float) -> None:
        """Count a value, in seconds."""
        self.count += 1
        self.sum_s += value
        for index, bound in enumerate(self.bounds):
            if value <= bound:
                self.counts[index] += 1
                return

    @property
    def mean_s(self) -> float:
        """Mean of the values; 0 when there are none."""
        return self.sum_s / self.count if self.count else 0.0


@dataclass
class Stats:
    """The engine since it began.

    Attributes:
        running: Requests running now.
        waiting: Requests in the queue now.
        blocks_used: Blocks of the cache in use now, over all groups of layers.
        blocks_total: Blocks there are.
        steps: Steps so far.
        prompt_tokens: Prompt tokens of requests that started.
        cached_tokens: How many of those the prefix cache had.
        generated_tokens: Tokens drawn.
        finished: Requests that ended, by reason.
        preemptions: How often a request lost its blocks to another.
        queue: From arrival to the first step.
        ttft: From arrival to the first token.
        tpot: Between a request's tokens after the first, its mean.
        speculation: Guessed and accepted tokens, when the engine guesses.
    """

    running: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    finished: dict[str, int] = field(default_factory=dict[str, int])
    preemptions: int = 0
    queue: Distribution = field(default_factory=Distribution)
    ttft: Distribution = field(default_factory=Distribution)
    tpot: Distribution = field(default_factory=Distribution)
    speculation: "SpeculationStats | None" = None

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens that the prefix cache had."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
