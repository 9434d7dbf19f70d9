"""CUDA graphs of the steps in which every request only decodes: one launch instead of hundreds.

A graph is captured once for each of a few batch sizes and replayed with other inputs in the same tensors; a
step of a size between pads up to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.engine.blocks_tables import Group
from blixt.llm.engine.paged import Span
from blixt.llm.engine.paged_cache import PagedCache
from blixt.llm.engine.paged_cuda import PagedFlash, Reading, read_of
from blixt.llm.model import GPT

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def can_capture(config: ModelConfig) -> bool:
    """Whether a step has the same kernels whatever its input: no experts, no rope that looks at lengths."""
    steady = ("default", "linear", "llama3", "yarn", "proportional")
    return all(s.mlp != "moe" and (s.rope is None or s.rope.kind in steady) for s in config.specs)


@dataclass
class Captured:
    """A graph with the tensors it reads and writes.

    Attributes:
        graph: To replay.
        inputs: Tokens, positions and lengths, (3, size).
        readings: What the kernel reads, one a group.
        logits: What comes out, (size, V).
    """

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    readings: list[Reading]
    logits: Tensor


class DecodeGraphs:
    """Captures and replays.

    Args:
        model: In evaluation mode on the GPU.
        cache: Its blocks.
        groups: Its layers by reach.
        most: Largest batch.
        context: Longest request, in tokens.
    """

    def __init__(
        self, model: GPT, cache: PagedCache, groups: Sequence[Group], most: int, context: int
    ) -> None:
        self.model = model
        self.cache = cache
        self.groups = tuple(groups)
        self.context = context
        self.sizes = [size for size in SIZES if size < most] + [most]
        self.device = model.embed.weight.device
        self._captured: dict[int, Captured] = {}
        self._pool: Any = None  # torch's handle of the memory that all graphs share

    def run(self, tokens: Sequence[int], lengths: Sequence[int], spans: Sequence[Span]) -> Tensor:
        """Logits (requests, V) of a step in which each span is one token."""
        count = len(spans)
        size = next(size for size in self.sizes if size >= count)
        captured = self._captured.get(size) or self._capture(size)
        padding = [0] * (size - count)
        captured.inputs.copy_(
            torch.tensor(
                [
                    [*tokens, *padding],
                    [*(s.start for s in spans), *padding],
                    [*lengths, *(1 for _ in padding)],
                ]
            ),
            non_blocking=True,
        )
        for number, reading in enumerate(captured.readings):
            reading.copy_(self._read(spans, number, size))
        captured.graph.replay()
        return captured.logits[:count]

    def _read(self, spans: Sequence[Span], number: int, size: int) -> Reading:
        return read_of(spans, number, self.groups[number], self.cache.block_size, size, self.device)

    def _capture(self, size: int) -> Captured:
        """Record a step of padding rows only, after running it twice so that every kernel has been chosen."""
        inputs = torch.zeros((3, size), dtype=torch.int64, device=self.device)
        inputs[2] = 1
        readings = [self._widest(number, size) for number in range(len(self.groups))]
        context = PagedFlash(self.cache, self.groups, readings, inputs[1], inputs[2])
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.model.logits(self.model.hidden(inputs[0], context))
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self.model.logits(self.model.hidden(inputs[0], context)).float()
        self._pool = self._pool or graph.pool()
        self._captured[size] = Captured(graph, inputs, readings, logits)
        return self._captured[size]

    def _widest(self, number: int, size: int) -> Reading:
        """A reading whose table has room for the longest request, for the kernel's fixed arguments."""
        reading = self._read((), number, size)
        blocks = -(-self.context // self.cache.block_size)
        reading.table = torch.zeros((size, blocks), dtype=torch.int32, device=self.device)
        reading.longest_key = self.context
        return reading
