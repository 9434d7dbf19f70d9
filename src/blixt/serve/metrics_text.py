"""Prometheus text of the summed cells."""

from collections.abc import Iterable, Iterator, Sequence

from blixt.serve.metrics import AT, HISTOGRAMS, STATUSES

COUNTER_NAMES = {
    "cancelled": "requests_cancelled_total",
    "limited": "requests_limited_total",
    "cache_hits": "cache_hits_total",
    "pieces": "stream_pieces_total",
    "pauses": "stream_pauses_total",
    "restarts": "worker_restarts_total",
}
HISTOGRAM_NAMES = {
    "seconds": "request_seconds",
    "queue_seconds": "queue_seconds",
    "batch_wait_seconds": "batch_wait_seconds",
    "first_piece_seconds": "first_piece_seconds",
    "token_seconds": "token_seconds",
    "batch_sizes": "batch_size",
}
HELP = {
    "requests_total": ("counter", "Requests answered, by status."),
    "requests_cancelled_total": ("counter", "Requests whose client left before the answer."),
    "requests_limited_total": ("counter", "Requests refused by the limit that `adaptive_limit` learns."),
    "cache_hits_total": ("counter", "Requests answered with a kept answer."),
    "stream_pieces_total": ("counter", "Pieces sent by streams."),
    "stream_pauses_total": ("counter", "Times a stream was held for a slow reader."),
    "tokens_total": (
        "counter",
        "Tokens of a language model: read (prompt), of those from a cache (cached), written (completion).",
    ),
    "worker_restarts_total": ("counter", "Workers started again after they ended."),
    "worker_busy_seconds_total": ("counter", "Time that workers spent computing."),
    "request_seconds": ("histogram", "From the request's last byte to the answer's last."),
    "queue_seconds": ("histogram", "From admission to the way to a worker."),
    "batch_wait_seconds": ("histogram", "How long the oldest request of a batch waited for the others."),
    "first_piece_seconds": ("histogram", "From admission to a stream's first piece."),
    "token_seconds": ("histogram", "Between an answer's tokens, after the first."),
    "batch_size": ("histogram", "Requests sent to a worker in one frame."),
    "in_flight": ("gauge", "Requests admitted and not answered."),
    "queue_depth": ("gauge", "Requests waiting for a worker."),
    "concurrency_limit": ("gauge", "Requests that may run and wait, learned; 0 without `adaptive_limit`."),
    "streams": ("gauge", "Streams being sent."),
    "websockets": ("gauge", "Websocket sessions that are open."),
    "slab_bytes": ("gauge", "Shared memory lent to large request bodies."),
    "workers_ready": ("gauge", "Workers that answer."),
    "workers": ("gauge", "Workers asked for."),
    "fronts": ("gauge", "Processes that take requests."),
    "build_info": ("gauge", "Always 1; the version is in the label."),
}
GAUGES = (
    "in_flight",
    "queue_depth",
    "concurrency_limit",
    "workers",
    "workers_ready",
    "streams",
    "websockets",
)


def render(apis: Iterable[tuple[str, Sequence[float]]], version: str, fronts: int) -> str:
    """All APIs' numbers as Prometheus text, grouped by metric as the format demands.

    Args:
        apis: Each API's path and its summed cells.
        version: Of blixt.
        fronts: How many processes take requests.
    """
    families: dict[str, list[str]] = {name: [] for name in HELP}
    slab_bytes = 0.0
    for path, cells in apis:
        slab_bytes += cells[AT["slab_bytes"]]
        for family, line in _samples(f'api="{_escape(path)}"', cells):
            families[family].append(line)
    families["slab_bytes"].append(f"blixt_serve_slab_bytes {slab_bytes:.12g}")
    families["fronts"].append(f"blixt_serve_fronts {fronts}")
    families["build_info"].append(f'blixt_serve_build_info{{version="{_escape(version)}"}} 1')
    out: list[str] = []
    for name, lines in families.items():
        kind, text = HELP[name]
        out += [f"# HELP blixt_serve_{name} {text}", f"# TYPE blixt_serve_{name} {kind}", *lines]
    return "\n".join(out) + "\n"


def _samples(label: str, cells: Sequence[float]) -> Iterator[tuple[str, str]]:
    for at, status in enumerate(STATUSES, AT["status"]):
        if cells[at]:
            yield "requests_total", _line("requests_total", f'{label},status="{status}"', cells[at])
    for cell, name in COUNTER_NAMES.items():
        yield name, _line(name, label, cells[AT[cell]])
    busy = "worker_busy_seconds_total"
    yield busy, _line(busy, label, cells[AT["busy_us"]] / 1e6)
    for kind in ("prompt", "completion", "cached"):
        yield "tokens_total", _line("tokens_total", f'{label},kind="{kind}"', cells[AT[f"{kind}_tokens"]])
    for name in GAUGES:
        yield name, _line(name, label, cells[AT[name]])
    for cell, name in HISTOGRAM_NAMES.items():
        for line in _histogram(name, label, cells, AT[cell], HISTOGRAMS[cell]):
            yield name, line


def _histogram(
    name: str, label: str, cells: Sequence[float], start: int, bounds: Sequence[float]
) -> Iterator[str]:
    total = 0.0
    for at, bound in enumerate((*bounds, "+Inf"), start):
        total += cells[at]
        yield _line(f"{name}_bucket", f'{label},le="{bound}"', total)
    yield _line(f"{name}_sum", label, cells[start + len(bounds) + 1])
    yield _line(f"{name}_count", label, total)


def _line(name: str, labels: str, value: float) -> str:
    return f"blixt_serve_{name}{{{labels}}} {value:.12g}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
