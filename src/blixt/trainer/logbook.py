"""`self.log`: takes values in, and gives them out for loggers, callbacks and the progress bar."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blixt.fabric import ConfigError, Fabric
from blixt.trainer.logbook_collect import Collector, to_host
from blixt.trainer.logbook_levels import LEVELS, level_of, misplaced
from blixt.trainer.logbook_metrics import (
    attribute_of,
    batch_value,
    is_metric,
    load_metric_states,
    metric_states,
)
from blixt.trainer.logbook_sizes import BatchSizes
from blixt.trainer.logbook_stores import Stores
from blixt.trainer.logbook_values import as_number, taken
from blixt.trainer.slot_specs import make_slot, restored_slot, spec_of
from blixt.trainer.slots import Options, Slot, finish, merge, reduction

SUFFIX = "/dataloader_idx_"


class Page:
    """The slots of one stage: training has one, every evaluation run another."""

    def __init__(self) -> None:
        self.slots: dict[tuple[str, int, str], Slot] = {}


class Logbook:
    """Takes values from `log`, and gives them out for loggers, callbacks and the progress bar.

    Nothing leaves the device and no rank waits for another until somebody needs the numbers: a row is due,
    an epoch ends, or the progress bar is drawn.

    Attributes:
        hook: The hook that runs now; None where logging means nothing.
        batch: The batch that runs now, to infer its size when an epoch mean needs it.
        loader: Index of the evaluation loader that runs now.
        loaders: How many there are; with several, names get a suffix.
        training: The page of the training loop, while there is one; validation writes on its own.
        disabled: Whether `log` does nothing, as with `Trainer(barebones=True)`.
        has_loggers: Whether anybody will read the rows; only for a warning.
        stores: What others are told.
        loader_of: Of which of several evaluation loaders a name without suffix is.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._page = Page()
        self._sizes = BatchSizes()
        self._told_off = False
        self._collector = Collector(fabric, self._adopt)
        self._module: nn.Module | None = None
        self.hook: str | None = None
        self.batch: Any = None
        self.loader = 0
        self.loaders = 1
        self.training: Page | None = None
        self.disabled = False
        self.has_loggers = True
        self.stores = Stores()
        self.loader_of: dict[str, int] = {}

    def begin_run(self, module: nn.Module) -> None:
        """Forget what earlier runs gave out, and log for `module` from now on."""
        self._module = module
        trainer = getattr(module, "_trainer", None)
        self.has_loggers = trainer is None or bool(trainer.loggers)
        self._page, self.loader, self.loaders, self.training = Page(), 0, 1, None
        self._sizes = BatchSizes()
        self.stores.clear()
        self.loader_of.clear()

    def turn_to(self, page: Page, loaders: int = 1) -> tuple[Page, int]:
        """Write on another page from now on; returns what to turn back to."""
        before = (self._page, self.loaders)
        self._page, self.loaders, self.loader = page, loaders, 0
        return before

    # --- taking -----------------------------------------------------------------------------------

    def log(
        self,
        module: nn.Module,
        name: str,
        value: Any,
        batch_size: Any,
        add_dataloader_idx: bool,
        metric_attribute: str | None,
        given: tuple[Any, ...],
    ) -> None:
        """Take one value of `module`; `given` are the other arguments, as `Options` has them."""
        hook = self.hook
        if hook is None or self.disabled:
            return self._refuse(name)
        slot = self._page.slots.get((hook, self.loader, name))
        if slot is None:
            slot = self._new_slot(module, name, value, add_dataloader_idx, metric_attribute, given)
        elif slot.given != given:
            self._renew(slot, given)
        if not slot.plain:
            return self._log_other(slot, name, value, batch_size)
        kind: type = type(value)  # pyright: ignore[reportUnknownVariableType] - of anything
        if kind is Tensor and value.is_cpu:
            try:
                value = value.item()
            except RuntimeError:  # it has several elements
                value = taken(name, value, False)
        elif kind is not float and kind is not int:
            value = taken(name, value, False)
        slot.last = value
        slot.fresh, slot.shared = True, False
        if slot.weighs:
            slot.last_weight = self._sizes.of(name, self.batch) if batch_size is None else batch_size
        if slot.counts:
            slot.add(value, slot.last_weight)

    def _log_other(self, slot: Slot, name: str, value: Any, batch_size: Any) -> None:
        """Take a metric, or a value that keeps its graph."""
        graph = slot.options.enable_graph
        if slot.metric is not None and is_metric(value):
            slot.metric, slot.last, slot.fresh, slot.dirty = value, batch_value(value), True, True
            return
        number = type(value) in (float, int)
        value = torch.tensor(float(value)) if graph and number else taken(name, value, graph)
        slot.last = value
        slot.fresh, slot.shared = True, False
        if slot.weighs:
            slot.last_weight = self._sizes.of(name, self.batch) if batch_size is None else batch_size
        if slot.counts:
            slot.add(value.detach() if graph else value, slot.last_weight)

    def _refuse(self, name: str) -> None:
        if not self.disabled:
            raise misplaced(name)
        if not self._told_off:
            self._told_off = True
            warnings.warn(
                f"log({name!r}) does nothing: Trainer(barebones=True) switches it off.", stacklevel=4
            )

    def _new_slot(
        self,
        module: nn.Module,
        name: str,
        value: Any,
        add_dataloader_idx: bool,
        metric_attribute: str | None,
        given: tuple[Any, ...],
    ) -> Slot:
        hook = self.hook or ""
        options = self._options(hook, name, given)
        several = self.loaders > 1 and LEVELS[hook].steps
        self._check_name(name, several, add_dataloader_idx)
        attribute = None
        if is_metric(value):
            roots = [module] if self._module is None else [module, self._module]
            attribute = attribute_of(name, value, roots, metric_attribute)
        else:
            as_number(name, value)
        if given[1] and not self.has_loggers:
            warnings.warn(
                f"log({name!r}, logger=True): the Trainer has no logger that could take it.", stacklevel=4
            )
        suffix = f"{SUFFIX}{self.loader}" if several and add_dataloader_idx else ""
        slot = make_slot((hook, self.loader, name), suffix, options, given)
        slot.metric, slot.attribute = value if attribute is not None else None, attribute
        slot.weighs = (
            options.reduce_fx == "mean" and LEVELS[hook].steps and (options.on_epoch or options.shares_steps)
        )
        slot.settle()
        if several and not suffix:
            self.loader_of[slot.epoch_key] = self.loader
        if options.rank_zero_only:
            self.stores.rank_zero.update((slot.step_key, slot.epoch_key, slot.bare_key))
        self._page.slots[slot.key] = slot
        return slot

    def _check_name(self, name: str, several: bool, add_dataloader_idx: bool) -> None:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("log(name)", name, "it is no text", "Use a name such as 'loss'")
        if add_dataloader_idx and SUFFIX in name:
            raise ConfigError("log(name)", name, "the suffix is added by the trainer", "Leave it out")
        shared = several and not add_dataloader_idx
        if shared and any(key[0] == self.hook and key[2] == name for key in self._page.slots):
            reason = "another loader has logged this name, and add_dataloader_idx=False keeps no loader apart"
            raise ConfigError("log(name)", name, reason, "Use a name of its own for each loader")

    def _options(self, hook: str, name: str, given: tuple[Any, ...]) -> Options:
        prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, group, zero_only = given
        at_steps, over_epoch = level_of(hook, name, on_step, on_epoch)
        return Options(
            prog_bar=prog_bar,
            logger=logger is None or bool(logger),
            on_step=at_steps,
            on_epoch=over_epoch,
            reduce_fx=reduction(reduce_fx),
            enable_graph=enable_graph,
            sync_dist=sync_dist,
            group=group,
            rank_zero_only=zero_only,
        )

    def _renew(self, slot: Slot, given: tuple[Any, ...]) -> None:
        """The first call after a resume says what a restored slot's options are; later ones must agree."""
        hook, _, name = slot.key
        if slot.given and self._options(hook, name, given) == slot.options:
            slot.given = given  # one of them spelt out what the other left to the hook
            return
        if slot.given:
            raise ConfigError(
                "log(name)",
                name,
                f"it was logged in {hook} with other options before",
                "Use the same options",
            )
        slot.options, slot.given = self._options(hook, name, given), given
        slot.weighs = slot.options.reduce_fx == "mean"
        slot.settle()

    # --- giving -----------------------------------------------------------------------------------

    def collect_step(self) -> dict[str, float]:
        """The step values logged since the last row, reduced over ranks where asked; for the loggers."""
        due = [s for s in self._page.slots.values() if s.fresh and s.options.on_step and s.last is not None]
        if not due:
            return {}
        numbers = self._collector.steps(due)
        row: dict[str, float] = {}
        for slot, number in zip(due, numbers, strict=True):
            slot.fresh = False
            if slot.options.prog_bar:
                self.stores.bar[slot.step_key] = number
            if slot.options.logger:
                row[slot.step_key] = number
        self._refresh()
        return row

    def share_steps(self) -> None:
        """Reduce the newest step values with `sync_dist=True` now; call it on all ranks.

        For decisions by a step value between two rows, such as saving the best checkpoint.
        """
        shared = [s for s in self._page.slots.values() if s.options.shares_steps and s.options.on_step]
        self._collector.steps([slot for slot in shared if slot.last is not None])

    def close_epoch(self) -> None:
        """Compute, reduce and publish the epoch's values; the hooks at its end see them.

        Every rank calls it, whatever it has logged.
        """
        if self._page is self.training:
            self.share_steps()
        self.stores.bar.update(self.peek())
        self._refresh()
        for slot in self._page.slots.values():
            slot.last, slot.fresh = None, False
        self._compute()

    def collect_epoch(self, reset: bool = True) -> dict[str, float]:
        """The row of the epoch's values, with those logged since `close_epoch`; begin anew if `reset`.

        Every rank calls it, whatever it has logged.
        """
        self._compute()
        done = [slot for slot in self._page.slots.values() if slot.result is not None]
        row = {
            slot.epoch_key: slot.result for slot in done if slot.options.logger and slot.result is not None
        }
        if reset:
            self._refresh()
            for slot in self._page.slots.values():
                slot.reset()
        return row

    def _compute(self) -> None:
        slots = self._page.slots
        self._collector.epochs(slots)
        for slot in slots.values():
            if slot.result is not None:
                self.stores.publish_epoch(slot, slot.result)

    def _adopt(self, key: tuple[str, int, str], spec: dict[str, Any]) -> None:
        """Take part in what another rank has logged and this one, perhaps without batches, has not."""
        slot = restored_slot(key, spec, self._module)
        self._page.slots[key] = slot

    # --- the three stores -------------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        """The newest value of everything; always the same dict, so others may write into it."""
        self._refresh()
        return self.stores.callback

    @property
    def logged_metrics(self) -> dict[str, torch.Tensor]:
        """The newest value of everything that loggers get; always the same dict."""
        self._refresh()
        return self.stores.logged

    @property
    def bar_metrics(self) -> dict[str, float]:
        """What the progress bar shows of finished epochs and rows."""
        return self.stores.bar

    @property
    def rank_zero_names(self) -> set[str]:
        """What was logged on rank 0 only, and so cannot be monitored."""
        return self.stores.rank_zero

    def newest(self) -> dict[str, torch.Tensor]:
        """The same as `callback_metrics`."""
        return self.callback_metrics

    def peek(self) -> dict[str, float]:
        """What the progress bar shows now, of this rank."""
        slots = [slot for page in self._pages() for slot in page.slots.values()]
        live = [s for s in slots if s.options.prog_bar and s.options.on_step and s.last is not None]
        values = to_host([slot.last for slot in live])
        return {**self.stores.bar, **{s.step_key: v for s, v in zip(live, values, strict=True)}}

    def missing(self, argument: str, name: str) -> ConfigError:
        """The error for a metric that somebody waits for and nobody has logged.

        Args:
            argument: Who waits, e.g. "EarlyStopping(monitor)".
            name: The metric.
        """
        self._refresh()
        return self.stores.missing(argument, name)

    def _pages(self) -> list[Page]:
        """The page of training, if there is one, and the one that is written on."""
        return [self._page] if self.training in (None, self._page) else [self.training, self._page]

    def _refresh(self) -> None:
        """Bring the running step values into the stores, and in an epoch hook what it has just logged."""
        for page in self._pages():
            self.stores.publish_steps(page.slots.values(), to_callbacks=page is self.training)
        level = LEVELS.get(self.hook or "")
        if level is not None and not level.steps:  # as this rank knows it; the reduced value follows
            new = [
                s for s in self._page.slots.values() if s.dirty and s.options.on_epoch and s.metric is None
            ]
            for slot, pair in zip(new, self._collector.pairs(new), strict=True):
                self.stores.publish_epoch(slot, finish(slot.options.reduce_fx, [pair]))

    # --- checkpoint -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The half-finished epoch values of this rank, and the states of the module's metrics."""
        page = self.training if self.training is not None else self._page
        kept = [s for s in page.slots.values() if s.options.on_epoch and (s.dirty or s.result is not None)]
        pairs = self._collector.pairs(kept)
        slots = [[list(s.key), {**spec_of(s), "pair": list(p)}] for s, p in zip(kept, pairs, strict=True)]
        metrics = {} if self._module is None else metric_states(self._module)
        return {"slots": slots, "metrics": metrics}

    @staticmethod
    def merged(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What all ranks have half finished as one state, for a run that goes on with another number of them.

        Give it to one rank. The states of metrics are left out: only the metric knows how to merge them.
        """
        slots: dict[tuple[Any, ...], dict[str, Any]] = {}
        for key, spec in (item for state in states for item in state.get("slots", [])):
            known = slots.setdefault(tuple(key), {**spec, "pair": [0.0, 0.0]})
            known["pair"] = list(merge(spec["reduce_fx"], [tuple(known["pair"]), tuple(spec["pair"])]))
        return {"slots": [[list(key), spec] for key, spec in slots.items() if spec["attribute"] is None]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with half-finished epoch values."""
        for (hook, loader, name), spec in state.get("slots", []):
            slot = restored_slot((hook, loader, name), spec, self._module)
            if slot.metric is None and spec["pair"][1] > 0:
                slot.load((spec["pair"][0], spec["pair"][1]))
            slot.dirty = True
            self._page.slots[slot.key] = slot
        if self._module is not None:
            load_metric_states(self._module, state.get("metrics", {}))
