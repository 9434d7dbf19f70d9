"""A load generator for a service: throughput, latency percentiles, CPU per request, streams.

Closed loop (so many clients, each sends when it has its answer) or open loop (so many requests a second,
whatever the answers do). An open loop counts latency from when a request was due, so a server that stalls
cannot hide it.
"""

from blixt.serve.bench.load import Round, Target, run_round
from blixt.serve.bench.plot import latency_curve
from blixt.serve.bench.report import Summary, summarise

__all__ = ["Round", "Summary", "Target", "latency_curve", "run_round", "summarise"]
