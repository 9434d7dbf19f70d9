"""`self.log`: what is logged where, and the one reduction and host transfer when numbers are due."""

from collections.abc import Iterable
from typing import Any, cast

import torch

from blixt.fabric import ConfigError, Fabric, FabricError, tensors
from blixt.trainer.slots import Options, Reduction, Slot, combine, reduction

# hook -> (on_step by default, on_epoch by default, on_step allowed); logging elsewhere has no meaning.
_STEP, _EPOCH, _EPOCH_ONLY = (True, False, True), (False, True, True), (False, True, False)
_LEVELS = {
    **dict.fromkeys(
        [
            "training_step",
            "on_train_batch_start",
            "on_train_batch_end",
            "on_before_zero_grad",
            "on_before_backward",
            "on_after_backward",
            "on_before_optimizer_step",
            "optimizer_step",
            "lr_scheduler_step",
        ],
        _STEP,
    ),
    **dict.fromkeys(["validation_step", "on_validation_batch_start", "on_validation_batch_end"], _EPOCH),
    **dict.fromkeys(["test_step", "on_test_batch_start", "on_test_batch_end"], _EPOCH),
    **dict.fromkeys(["on_train_start", "on_train_epoch_start", "on_train_epoch_end"], _EPOCH_ONLY),
    **dict.fromkeys(["on_validation_start", "on_validation_epoch_start"], _EPOCH_ONLY),
    **dict.fromkeys(["on_validation_epoch_end", "on_test_start", "on_test_epoch_start"], _EPOCH_ONLY),
    "on_test_epoch_end": _EPOCH_ONLY,
}


class Page:
    """The slots of one stage: training has one, every evaluation run another."""

    def __init__(self) -> None:
        self.slots: dict[tuple[str, int, str], Slot] = {}


class Logbook:
    """Takes values from `log`, and gives them out for loggers, callbacks and the progress bar.

    Attributes:
        hook: The hook that runs now; None where logging means nothing.
        batch: The batch that runs now, to infer its size when an epoch mean needs it.
        loader: Index of the evaluation loader that runs now.
        loaders: How many there are; with several, names get a suffix.
        training: The page of the training loop, while there is one; validation writes on its own.
        callback_metrics: The newest value of everything.
        logged_metrics: What the loggers got last.
        bar_metrics: What the progress bar shows.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._page = Page()
        self._sized: Any = None
        self._size = 1.0
        self.hook: str | None = None
        self.batch: Any = None
        self.loader = 0
        self.loaders = 1
        self.training: Page | None = None
        self.callback_metrics: dict[str, torch.Tensor] = {}
        self.logged_metrics: dict[str, float] = {}
        self.bar_metrics: dict[str, float] = {}

    def turn_to(self, page: Page, loaders: int = 1) -> tuple[Page, int]:
        """Write on another page from now on; returns what to turn back to."""
        before = (self._page, self.loaders)
        self._page, self.loaders, self.loader = page, loaders, 0
        return before

    # --- taking -----------------------------------------------------------------------------------

    def log(
        self, name: str, value: Any, batch_size: int | None, add_dataloader_idx: bool, given: tuple[Any, ...]
    ) -> None:
        """Take one value; `given` are the other arguments of `Module.log`, in `Options`' order."""
        hook = self.hook
        if hook is None:
            raise FabricError(
                f"log({name!r}) was called outside of a hook that logs. Call it in a step or epoch hook."
            )
        slot = self._page.slots.get((hook, self.loader, name))
        if slot is None:
            slot = self._new_slot(hook, name, value, add_dataloader_idx, given)
        elif slot.given != given:
            raise ConfigError(
                "log(name)",
                name,
                f"it was logged in {hook} with other options before",
                "Use the same options",
            )
        if isinstance(value, torch.Tensor):
            if value.numel() != 1:
                reason = f"the value has shape {tuple(value.shape)}"
                raise ConfigError("log(name)", name, reason, "Log one number, e.g. value.mean()")
            value = value.detach()
        elif slot.metric is not None:
            value = getattr(value, "_forward_cache", None)
        slot.last = value
        slot.fresh = True
        if slot.options.on_epoch and slot.metric is None:
            slot.add(value, self._batch_size() if batch_size is None else float(batch_size))

    def _new_slot(
        self, hook: str, name: str, value: Any, add_dataloader_idx: bool, given: tuple[Any, ...]
    ) -> Slot:
        levels = _LEVELS.get(hook)
        if levels is None:
            raise FabricError(f"log({name!r}) has no meaning in {hook}. Log in a step, batch or epoch hook.")
        prog_bar, logger, on_step, on_epoch, reduce_fx, sync_dist, rank_zero_only = given
        on_step = levels[0] if on_step is None else on_step
        on_epoch = levels[1] if on_epoch is None else on_epoch
        if on_step and not levels[2]:
            raise ConfigError("log(on_step)", True, f"{hook} runs once an epoch", "Leave on_step out")
        if "/dataloader_idx_" in name:
            raise ConfigError("log(name)", name, "the suffix is added by the trainer", "Leave it out")
        metric = value if hasattr(value, "compute") and hasattr(value, "reset") else None
        if metric is None and not isinstance(value, (int, float, torch.Tensor)):
            reason = f"a {type(value).__name__} is not a number"
            raise ConfigError("log(name)", name, reason, "Log a number, a tensor of one element or a metric")
        options = Options(
            prog_bar, logger, on_step, on_epoch, reduction(reduce_fx), sync_dist, rank_zero_only
        )
        suffix = f"/dataloader_idx_{self.loader}" if self.loaders > 1 and add_dataloader_idx else ""
        forked = on_step and on_epoch
        slot = Slot(
            f"{name}_step{suffix}" if forked else name + suffix,
            f"{name}_epoch{suffix}" if forked else name + suffix,
            name + suffix,
            options,
            given,
            metric=metric,
        )
        self._page.slots[(hook, self.loader, name)] = slot
        return slot

    def _batch_size(self) -> float:
        """Rows of the first tensor of the running batch; found once a batch."""
        if self._sized is not self.batch:
            first = next(tensors(self.batch), None)
            self._size = float(first.shape[0]) if first is not None and first.ndim else 1.0
            self._sized = self.batch
        return self._size

    # --- giving -----------------------------------------------------------------------------------

    def collect_step(self) -> dict[str, float]:
        """The step values logged since the last row, reduced over ranks where asked; for the loggers."""
        due = [
            slot
            for slot in self._page.slots.values()
            if slot.options.on_step and slot.fresh and slot.last is not None
        ]
        if not due:
            return {}
        for slot in due:
            slot.fresh = False
        values = self._to_host([slot.last for slot in due])
        pairs = [(value, 1.0) for value in values]
        return self._publish(due, self._reduce(due, pairs), [slot.step_key for slot in due])

    def collect_epoch(self, reset: bool = True) -> dict[str, float]:
        """The epoch values, reduced over ranks where asked; the slots begin anew if `reset`."""
        due = [slot for slot in self._page.slots.values() if slot.options.on_epoch]
        if not due:
            return {}
        for slot in due:
            slot.fold()
        computed = [slot.metric.compute() if slot.metric is not None else slot.total for slot in due]
        totals = self._to_host([0.0 if total is None else total for total in computed])
        weights = [1.0 if slot.metric is not None else slot.weight for slot in due]
        plain = [0 if slot.metric is not None else 1 for slot in due]
        numbers = self._reduce(due, list(zip(totals, weights, strict=True)), plain)
        row = self._publish(due, numbers, [slot.epoch_key for slot in due])
        if reset:
            for slot in due:
                slot.reset()
        return row

    def peek(self) -> dict[str, float]:
        """What the progress bar shows now, of this rank."""
        shown = [
            slot for slot in self._page.slots.values() if slot.options.prog_bar and slot.last is not None
        ]
        live = [slot for slot in shown if slot.options.on_step]
        values = self._to_host([slot.last for slot in live])
        return {**self.bar_metrics, **{s.bare_key: v for s, v in zip(live, values, strict=True)}}

    def newest(self) -> dict[str, torch.Tensor]:
        """`callback_metrics` with the running step values of this rank."""
        pages = {id(page): page for page in (self.training, self._page) if page is not None}
        slots = [slot for page in pages.values() for slot in page.slots.values()]
        live = [slot for slot in slots if slot.options.on_step and slot.last is not None]
        fresh = {slot.step_key: torch.as_tensor(slot.last) for slot in live}
        return {**self.callback_metrics, **fresh, **{slot.bare_key: fresh[slot.step_key] for slot in live}}

    def _reduce(
        self, due: list[Slot], pairs: list[tuple[float, float]], plain: list[int] | None = None
    ) -> list[float]:
        """One all-gather for everything that is reduced over ranks."""
        kinds: list[Reduction] = [slot.options.reduce_fx for slot in due]
        shared = [i for i, slot in enumerate(due) if slot.options.sync_dist and (plain is None or plain[i])]
        numbers = [
            pair[0] if slot.metric is not None else combine(kind, [pair[0]], [pair[1]])
            for slot, kind, pair in zip(due, kinds, pairs, strict=True)
        ]
        if shared and self._fabric.world_size > 1:
            dtype = torch.float32 if self._fabric.device.type == "mps" else torch.float64
            mine = torch.tensor([pairs[i] for i in shared], dtype=dtype)
            ranks: list[list[list[float]]] = _as_list(self._fabric.all_gather(mine))
            for position, i in enumerate(shared):
                column = [rank[position] for rank in ranks]
                numbers[i] = combine(kinds[i], [pair[0] for pair in column], [pair[1] for pair in column])
        return numbers

    def _publish(self, due: list[Slot], numbers: list[float], keys: list[str]) -> dict[str, float]:
        row: dict[str, float] = {}
        for slot, number, key in zip(due, numbers, keys, strict=True):
            if not slot.options.rank_zero_only or self._fabric.is_global_zero:
                self.callback_metrics[key] = self.callback_metrics[slot.bare_key] = torch.tensor(number)
            if slot.options.prog_bar:
                self.bar_metrics[key] = number
            if slot.options.logger:
                row[key] = number
        self.logged_metrics.update(row)
        return row

    def _to_host(self, values: Iterable[Any]) -> list[float]:
        """All values with one transfer a device."""
        items = list(values)
        on_device = [item for item in items if _is_away(item)]
        if on_device:
            dtype = torch.float32 if self._fabric.device.type == "mps" else torch.float64
            moved = iter(_as_list(torch.stack([item.reshape(()).to(dtype) for item in on_device])))
            return [float(next(moved) if _is_away(item) else item) for item in items]
        return [float(item) for item in items]

    # --- checkpoint -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The half-finished epoch values of this rank."""
        state: dict[str, Any] = {}
        for (hook, loader, name), slot in self._page.slots.items():
            if slot.options.on_epoch and slot.metric is None:
                slot.fold()
                if slot.total is not None:
                    state[f"{hook}|{loader}|{name}"] = [list(slot.given), float(slot.total), slot.weight]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with half-finished epoch values."""
        for key, (given, total, weight) in state.items():
            hook, loader, name = key.split("|", 2)
            self.loader = int(loader)
            slot = self._new_slot(hook, name, 0.0, True, tuple(given))
            dtype = torch.float32 if self._fabric.device.type == "mps" else torch.float64
            slot.total = torch.tensor(total, dtype=dtype, device=self._fabric.device)
            slot.weight = weight
        self.loader = 0


def _as_list(tensor: torch.Tensor) -> list[Any]:
    return cast("Any", tensor).tolist()  # torch does not say of what the list is


def _is_away(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and item.device.type != "cpu"
