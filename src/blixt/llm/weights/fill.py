"""Put the tensors of a source into a model, entry by entry of the family's rules."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.weights.place import local_part, put, targets
from blixt.llm.weights.rules import Entry, RuleTable, canonical_names, check_present, check_surplus, entries
from blixt.llm.weights.source import Source, TensorInfo


class Plan:
    """Which tensors of a source make which of a model's, checked before anything is read.

    Args:
        source: The tensors.
        rules: The family's.
        config: The model's.
        shapes: The model's own tensors' shapes, by name.

    Attributes:
        entries: The rules' entries, in order.
        entry_of: The entry that makes each of the model's tensors.
        made: Shape and dtype of each of the model's tensors.

    Raises:
        WeightsError: A tensor is missing, surplus, or of another shape than the config asks for.
    """

    def __init__(
        self, source: Source, rules: RuleTable, config: ModelConfig, shapes: Mapping[str, Sequence[int]]
    ) -> None:
        self.source = source
        self.names = canonical_names(source.infos, rules, config)
        self.entries = list(entries(rules, config))
        self.entry_of = {name: entry for entry in self.entries for name in entry.ours}
        self.made: dict[str, TensorInfo] = {}
        used = {name for entry in self.entries for name in entry.theirs}
        for entry in self.entries:
            check_present(entry.theirs, self.names, str(source.where))
            self._check_shapes(entry, shapes)
        check_surplus((self.names[name] for name in self.names.keys() - used), str(source.where))
        self._check_complete(shapes)

    def infos(self) -> Iterator[TensorInfo]:
        """What is known of every tensor that the model needs."""
        for entry in self.entries:
            yield from (self.source.infos[self.names[name]] for name in entry.theirs)

    def read(self, entry: Entry) -> list[Tensor]:
        """An entry's tensors of the model, from the source."""
        return entry.load([self.source.get(self.names[name]) for name in entry.theirs])

    def read_one(self, name: str) -> Tensor:
        """One of the model's tensors, by its name; its entry is read for it alone."""
        entry = self.entry_of[name]
        return self.read(entry)[entry.ours.index(name)]

    def _check_shapes(self, entry: Entry, shapes: Mapping[str, Sequence[int]]) -> None:
        theirs = [self.source.infos[self.names[name]] for name in entry.theirs]
        for name, made in zip(entry.ours, entry.load([info.meta() for info in theirs]), strict=True):
            wanted = shapes.get(name)
            self.made[name] = TensorInfo.plain(made.shape, made.dtype)
            if wanted is None:
                raise WeightsError(f"the rules of this model type name {name}, which its model does not have")
            if tuple(made.shape) != tuple(wanted):
                raise WeightsError(
                    f"{self.source.where}: {self.names[entry.theirs[0]]} has shape {theirs[0].shape}, "
                    f"the config asks for {tuple(wanted)}" + self._through(entry, made)
                )

    def _through(self, entry: Entry, made: Tensor) -> str:
        if len(entry.ours) == len(entry.theirs) == 1 and tuple(made.shape) == self._first_shape(entry):
            return ""
        return f" for {entry.ours[0]} (it makes {tuple(made.shape)})"

    def _first_shape(self, entry: Entry) -> tuple[int, ...]:
        return self.source.infos[self.names[entry.theirs[0]]].shape

    def _check_complete(self, shapes: Mapping[str, Sequence[int]]) -> None:
        if left := sorted(shapes.keys() - self.entry_of.keys()):
            raise WeightsError(f"the rules of this model type say nothing of {left[0]}, which its model has")


def main_dtype(infos: Iterable[TensorInfo], device: torch.device) -> torch.dtype:
    """What a model is loaded as when nobody says: the floating dtype that most numbers are stored in.

    Quantised blocks count as float32 on the CPU, where bfloat16 matrices of several rows are slow, and as
    bfloat16 elsewhere.
    """
    numbers: Counter[torch.dtype] = Counter()
    for info in infos:
        if not info.dtype.is_floating_point:
            continue
        plain = str(info.dtype).removeprefix("torch.") == info.stored
        unpacked = torch.float32 if device.type == "cpu" else torch.bfloat16
        numbers[info.dtype if plain else unpacked] += prod(info.shape)
    return numbers.most_common(1)[0][0] if numbers else torch.float32


@torch.no_grad()
def fill(
    model: nn.Module,
    plan: Plan,
    *,
    dtype: torch.dtype,
    device: torch.device,
    copy: bool = False,
    after_block: Callable[[str], None] | None = None,
) -> None:
    """Give every tensor of a model its value.

    Args:
        model: Its tensors may be on the meta device (they are replaced), real (they are filled), or DTensors,
            of which each rank reads only its own rows or columns.
        plan: Which tensors make which.
        dtype: Of parameters that are trained; others (a router's correction) stay as they are stored.
        device: Where replaced tensors go.
        copy: Let no parameter share memory with the file.
        after_block: Called with "blocks.3" when that block is complete, so that it can be quantised at once.
    """
    slots = targets(model)
    block = ""
    for entry in plan.entries:
        here = ".".join(entry.ours[0].split(".")[:2]) if entry.ours[0].startswith("blocks.") else ""
        if after_block and block and here != block:
            after_block(block)
        block = here
        for name, tensor in zip(entry.ours, plan.read(entry), strict=True):
            slot = slots[name]
            part = local_part(tensor, slot)
            wanted = dtype if slot.is_trained and part.is_floating_point() else part.dtype
            put(slot, part, dtype=wanted, device=device, copy=copy)
    if after_block and block:
        after_block(block)
