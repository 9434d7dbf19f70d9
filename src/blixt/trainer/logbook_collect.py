"""From slots to numbers: one transfer from the device and one gather between the ranks."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from blixt.fabric import ConfigError, Fabric
from blixt.trainer.logbook_metrics import epoch_value
from blixt.trainer.logbook_sync import gather_objects, gather_pairs
from blixt.trainer.slot_specs import spec_of
from blixt.trainer.slots import Pair, Slot, finish

Key = tuple[str, int, str]


class Collector:
    """Reduces what slots hold, over the epoch and over the ranks.

    Args:
        fabric: Which processes take part.
        adopt: Makes a slot for a name that only other ranks have logged.
    """

    def __init__(self, fabric: Fabric, adopt: Callable[[Key, dict[str, Any]], None]) -> None:
        self._fabric = fabric
        self._adopt = adopt

    def steps(self, due: list[Slot]) -> list[float]:
        """The newest value of each, which stays in the slot; with `sync_dist=True` reduced over the ranks.

        Raises:
            ConfigError: When the ranks have logged other names than each other.
        """
        values = to_host([slot.last for slot in due])
        numbers = dict(zip(map(id, due), values, strict=True))
        if self._fabric.world_size > 1:
            mine = (s for s in due if s.options.shares_steps and s.metric is None and not s.shared)
            shared = sorted(mine, key=lambda s: s.key)
            for group, slots in _by_group(shared):
                numbers |= zip(map(id, slots), self._shared_steps(slots, numbers, group), strict=True)
                for slot in slots:
                    slot.shared = True
        for slot in due:
            if slot.metric is None and not slot.options.enable_graph:
                slot.last = numbers[id(slot)]
        return [numbers[id(slot)] for slot in due]

    def _shared_steps(self, slots: list[Slot], numbers: dict[int, float], group: Any) -> list[float]:
        weights = to_host([slot.last_weight for slot in slots])
        pairs = [
            (numbers[id(s)] * w if s.options.reduce_fx == "mean" else numbers[id(s)], w)
            for s, w in zip(slots, weights, strict=True)
        ]
        return self._finished(slots, self._same_names(slots, pairs, group), group)

    def _same_names(self, slots: list[Slot], pairs: list[Pair], group: Any) -> list[list[Pair]]:
        names = ["|".join(map(str, slot.key)) for slot in slots]
        ranks = gather_pairs(names, pairs, self._fabric, group)
        if ranks is None:
            everyone = gather_objects(names, group)
            differing = sorted(set[str]().union(*everyone) - set[str](everyone[0]).intersection(*everyone))
            reason = f"only some ranks log {', '.join(differing)} (this is rank {self._fabric.global_rank})"
            raise ConfigError(
                "log(sync_dist)", True, reason, "Log the same names on every rank, or rank_zero_only"
            )
        return ranks

    def epochs(self, slots: dict[Key, Slot]) -> None:
        """Set `result` of every slot that got a value since the last time; all ranks call it."""
        due = self._due(slots)
        if self._fabric.world_size > 1:
            self._share_epochs(slots, due)
            return
        for slot, pair in zip(due, self.pairs(due), strict=True):
            self._finish_alone(slot, pair)

    def _share_epochs(self, slots: dict[Key, Slot], due: list[Slot]) -> None:
        shared = [slot for slot in due if slot.options.shares_epochs and slot.options.group is None]
        names = ["|".join(map(str, slot.key)) for slot in shared]
        pairs = self.pairs(shared)
        ranks = gather_pairs(names, pairs, self._fabric, None)
        if ranks is None:
            self._learn_names(slots, shared)
            return self._share_epochs(slots, self._due(slots))
        numbers = self._finished(shared, ranks, None)
        for slot, number in zip(shared, numbers, strict=True):
            if slot.metric is None:
                slot.result, slot.dirty = number, False
        alone = [slot for slot in due if not slot.options.shares_epochs]
        for slot, pair in zip(alone, self.pairs(alone), strict=True):
            self._finish_alone(slot, pair)
        for group, grouped in _by_group(
            [s for s in due if s.options.shares_epochs and s.options.group is not None]
        ):
            ranks = self._same_names(grouped, self.pairs(grouped), group)
            for slot, number in zip(grouped, self._finished(grouped, ranks, group), strict=True):
                slot.result, slot.dirty = number, False
        for (
            slot
        ) in shared:  # a metric reduces over the ranks in its own way, so all take them in the same order
            if slot.metric is not None:
                self._finish_alone(slot, (0.0, 0.0))

    def _learn_names(self, slots: dict[Key, Slot], shared: list[Slot]) -> None:
        for known in gather_objects([(slot.key, spec_of(slot)) for slot in shared], None):
            for key, spec in cast("list[tuple[Key, dict[str, Any]]]", known):
                if key not in slots:
                    self._adopt(key, spec)
                slots[key].dirty = True

    @staticmethod
    def _due(slots: dict[Key, Slot]) -> list[Slot]:
        return sorted((s for s in slots.values() if s.dirty and s.options.on_epoch), key=lambda s: s.key)

    @staticmethod
    def _finish_alone(slot: Slot, pair: Pair) -> None:
        if slot.metric is not None:
            slot.result = epoch_value(slot.key[2], slot.metric)
        else:
            slot.result = finish(slot.options.reduce_fx, [pair])
        slot.dirty = False

    def _finished(self, slots: list[Slot], ranks: list[list[Pair]], group: Any) -> list[float]:
        numbers = [finish(s.options.reduce_fx, [rank[i] for rank in ranks]) for i, s in enumerate(slots)]
        # Ranks that share a model (tensor parallel) have seen the same data: a sum counts it once.
        twins = (
            1 if group is not None else self._fabric.world_size // self._fabric.strategy.data_parallel_size
        )
        if twins == 1:
            return numbers
        return [n / twins if s.options.reduce_fx == "sum" else n for s, n in zip(slots, numbers, strict=True)]

    @staticmethod
    def pairs(slots: Sequence[Slot]) -> list[Pair]:
        """(total, weight) of each slot, with one transfer a device."""
        away = [slot.away() for slot in slots]
        there = [tensor for tensor in away if tensor is not None]
        flat = iter(
            _as_lists(torch.stack(there)) if len({t.device for t in there}) == 1 else map(_as_lists, there)
        )
        return [s.pair(None if t is None else next(flat)) for s, t in zip(slots, away, strict=True)]


def to_host(values: Sequence[Any]) -> list[float]:
    """All values as numbers, with one transfer for the tensors."""
    waiting = [value.detach() for value in values if isinstance(value, torch.Tensor)]
    if not waiting:
        return [float(value) for value in values]
    device = next((value.device for value in waiting if value.device.type != "cpu"), waiting[0].device)
    dtype = torch.float32 if device.type == "mps" else torch.float64
    moved = iter(_as_lists(torch.stack([value.to(device, dtype).reshape(()) for value in waiting])))
    return [next(moved) if isinstance(value, torch.Tensor) else float(value) for value in values]


def _by_group(slots: list[Slot]) -> list[tuple[Any, list[Slot]]]:
    groups: dict[int, tuple[Any, list[Slot]]] = {}
    for slot in slots:
        groups.setdefault(id(slot.options.group), (slot.options.group, []))[1].append(slot)
    return list(groups.values())


def _as_lists(tensor: torch.Tensor) -> list[Any]:
    return cast("Any", tensor).tolist()  # torch does not say of what the list is
