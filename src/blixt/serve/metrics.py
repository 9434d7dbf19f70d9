"""Counters, gauges and histograms of one API, and their Prometheus text.

Every event passes through the front, workers' events included (their frames carry computing time), so the
front's numbers are the numbers of all processes and survive any worker's death.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Cumulative buckets, sum and count."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, label: str) -> Iterator[str]:
        """The histogram in Prometheus's text form."""
        total = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{label},le="{bound}"}} {total}'
        yield f"{name}_sum{{{label}}} {self.sum:.9g}"
        yield f"{name}_count{{{label}}} {total}"


class ApiMetrics:
    """What one API counts."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.seconds = Histogram(SECONDS)
        self.queue_seconds = Histogram(SECONDS)
        self.first_piece_seconds = Histogram(SECONDS)
        self.batch_sizes = Histogram(SIZES)
        self.pieces = 0
        self.pauses = 0
        self.cancelled = 0
        self.restarts = 0
        self.busy_us = 0
        self.gauges: dict[str, Callable[[], float]] = {}

    def answered(self, status: int, seconds: float) -> None:
        """Count one finished request."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.observe(seconds)


HELP = {
    "blixt_serve_requests_total": ("counter", "Requests answered, by status."),
    "blixt_serve_requests_cancelled_total": ("counter", "Requests whose client left before the answer."),
    "blixt_serve_stream_pieces_total": ("counter", "Pieces sent by streams."),
    "blixt_serve_stream_pauses_total": ("counter", "Times a stream was held for a slow reader."),
    "blixt_serve_worker_restarts_total": ("counter", "Workers started again after they ended."),
    "blixt_serve_worker_busy_seconds_total": ("counter", "Time that workers spent computing."),
    "blixt_serve_request_seconds": ("histogram", "From the request's last byte to the answer's last."),
    "blixt_serve_queue_seconds": ("histogram", "From admission to the way to a worker."),
    "blixt_serve_first_piece_seconds": ("histogram", "From admission to a stream's first piece."),
    "blixt_serve_batch_size": ("histogram", "Requests sent to a worker in one frame."),
    "blixt_serve_in_flight": ("gauge", "Requests admitted and not answered."),
    "blixt_serve_queue_depth": ("gauge", "Requests waiting for a worker."),
    "blixt_serve_workers_ready": ("gauge", "Workers that answer."),
    "blixt_serve_workers": ("gauge", "Workers asked for."),
}


def render(apis: Iterable[tuple[str, ApiMetrics]]) -> str:
    """All APIs' numbers as Prometheus text, grouped by metric as the format demands."""
    families: dict[str, list[str]] = {name: [] for name in HELP}
    for path, metrics in apis:
        for family, line in _samples(f'api="{_escape(path)}"', metrics):
            families[family].append(line)
    out: list[str] = []
    for name, lines in families.items():
        kind, text = HELP[name]
        out += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines]
    return "\n".join(out) + "\n"


def _samples(label: str, metrics: ApiMetrics) -> Iterator[tuple[str, str]]:
    name = "blixt_serve_requests_total"
    for status, count in sorted(metrics.statuses.items()):
        yield name, f'{name}{{{label},status="{status}"}} {count}'
    plain: dict[str, float] = {
        "blixt_serve_requests_cancelled_total": metrics.cancelled,
        "blixt_serve_stream_pieces_total": metrics.pieces,
        "blixt_serve_stream_pauses_total": metrics.pauses,
        "blixt_serve_worker_restarts_total": metrics.restarts,
        "blixt_serve_worker_busy_seconds_total": metrics.busy_us / 1e6,
    }
    plain |= {f"blixt_serve_{gauge}": read() for gauge, read in metrics.gauges.items()}
    for name, value in plain.items():
        yield name, f"{name}{{{label}}} {value:.12g}"
    histograms = {
        "blixt_serve_request_seconds": metrics.seconds,
        "blixt_serve_queue_seconds": metrics.queue_seconds,
        "blixt_serve_first_piece_seconds": metrics.first_piece_seconds,
        "blixt_serve_batch_size": metrics.batch_sizes,
    }
    for name, histogram in histograms.items():
        for line in histogram.lines(name, label):
            yield name, line


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
