"""Runs the model on a planned step: rows in, logits out."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blixt.llm.engine.blocks_tables import Group
from blixt.llm.engine.graphs import DecodeGraphs
from blixt.llm.engine.paged import Paged, Span
from blixt.llm.engine.paged_cache import PagedCache
from blixt.llm.engine.paged_cuda import PagedFlash, flash_fits, read_of
from blixt.llm.engine.runner_layout import Layout
from blixt.llm.engine.scheduler import Slice
from blixt.llm.model import GPT

if TYPE_CHECKING:
    from blixt.llm.engine.adapters import AdapterSet


class Runner:
    """Turns slices of requests into one flat batch, and the batch into logits where tokens are drawn.

    Args:
        model: In evaluation mode, on its device.
        cache: Its blocks.
        groups: Its layers by reach.
        layout: How a CPU's matrices are laid out and batches padded.
        adapters: LoRA adapters that requests may name.
        graphs: Steps that only decode are replayed through them, where they fit the model.
    """

    def __init__(
        self,
        model: GPT,
        cache: PagedCache,
        groups: Sequence[Group],
        layout: Layout,
        adapters: "AdapterSet | None" = None,
        graphs: DecodeGraphs | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        self.groups = tuple(groups)
        self.layout = layout
        self.adapters = adapters
        self.graphs = graphs
        self.device = model.embed.weight.device
        self._flash = flash_fits(model.config, cache, groups)

    @torch.inference_mode()
    def run(self, plan: Sequence[Slice]) -> Tensor:
        """Compute a step.

        Returns:
            Logits (R, V) in single precision, for the rows that `rows_wanted` names, slice by slice.
        """
        if self.graphs is not None and all(
            p.count == 1 and p.samples and not p.request.adapter for p in plan
        ):
            lengths = [len(part.request.tokens) for part in plan]
            newest = [part.request.tokens[-1] for part in plan]
            return self.graphs.run(newest, lengths, [_span(part) for part in plan])
        hidden = self.hidden(plan)
        first, wanted = 0, list[int]()
        for part in plan:
            wanted += range(first + rows_wanted(part).start, first + rows_wanted(part).stop)
            first += part.count
        if not wanted:
            return hidden.new_empty((0, self.model.config.vocab))
        rows = self.layout.pad_logit_rows(hidden[torch.tensor(wanted, device=self.device)])
        counts = [len(rows_wanted(part)) for part in plan]
        with self._adapted(plan, counts, len(rows) - len(wanted)):  # an adapter may sit on the head
            return self.model.logits(rows)[: len(wanted)].float()

    def hidden(self, plan: Sequence[Slice]) -> Tensor:
        """The model's output for all rows of a step before its head, (N, D), after writing the cache."""
        tokens = [token for part in plan for token in _tokens(part)]
        positions = [p for part in plan for p in range(part.start, part.start + part.count)]
        lengths = [len(part.request.tokens) for part in plan for _ in range(part.count)]
        extra = self.layout.rows(len(tokens)) - len(tokens)
        inputs = torch.tensor(
            [tokens + [0] * extra, positions + [0] * extra, lengths + [1] * extra], device=self.device
        )
        context = self._context([_span(part) for part in plan], inputs[1], inputs[2])
        with self._adapted(plan, [part.count for part in plan], extra):
            return self.model.hidden(inputs[0], context)

    def _context(self, spans: Sequence[Span], positions: Tensor, lengths: Tensor) -> Paged | PagedFlash:
        if not self._flash:
            return Paged(self.cache, self.groups, spans, positions, lengths)
        size, rows = self.cache.block_size, len(positions)
        readings = [
            read_of(spans, number, group, size, rows, self.device) for number, group in enumerate(self.groups)
        ]
        return PagedFlash(self.cache, self.groups, readings, positions, lengths)

    def _adapted(
        self, plan: Sequence[Slice], counts: Sequence[int], extra: int
    ) -> AbstractContextManager[object]:
        """Compute each part's rows, so many of each and `extra` of nobody's, with its adapter."""
        if self.adapters is None or not any(part.request.adapter for part in plan):
            return nullcontext()
        index = {name: self.adapters.index(name) for name in {p.request.adapter for p in plan} if name}
        rows = [0] * extra
        for part, count in zip(reversed(plan), reversed(counts), strict=True):
            rows = [index[part.request.adapter] if part.request.adapter else 0] * count + rows
        return self.adapters.rows(torch.tensor(rows))


def rows_wanted(part: Slice) -> range:
    """The rows of a slice whose logits are needed: where tokens are drawn, and all for prompt logprobs."""
    request = part.request
    if request.sampling.prompt_logprobs is not None and part.start < request.prompt_tokens - 1:
        return range(part.count)
    if not part.samples:
        return range(0)
    return range(len(request.tokens) - 1 - part.start, part.count)


def _tokens(part: Slice) -> list[int]:
    request, end = part.request, part.start + part.count
    return request.tokens[part.start : end] + request.drafts[: max(0, end - len(request.tokens))]


def _span(part: Slice) -> Span:
    assert part.request.tables is not None
    return Span(part.start, part.count, part.request.tables.blocks)
