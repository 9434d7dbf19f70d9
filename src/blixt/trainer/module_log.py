"""How a `Module` speaks: `log`, `print`, and numbers from the other ranks."""

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from blixt.fabric import ConfigError, Fabric
from blixt.trainer.logbook_metrics import items_of
from blixt.trainer.logbook_values import as_number
from blixt.trainer.untraced import untraced

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer


class Speaking:
    """Gives a `Module` its voice; works in a Trainer, in a Fabric and, as far as it can, without either."""

    _trainer: "Trainer | None" = None
    _fabric: Fabric | None = None

    @untraced
    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[..., Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool | None = None,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: Any = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Log one number from within a hook.

        Nothing leaves the device and no rank waits for another until a row is due or the epoch ends.

        Args:
            name: Of the metric.
            value: A number, a tensor of one element, or a torchmetrics metric that the module holds.
            prog_bar: Show it in the progress bar.
            logger: Send it to the loggers; yes by default.
            on_step: Give out its value at steps; default by hook: yes in training batches.
            on_epoch: Give out its value over the epoch; default by hook: yes in evaluation and epoch hooks.
            reduce_fx: Over the epoch: "mean" (weighted by batch_size), "sum", "min" or "max".
            enable_graph: Keep the step value attached to its graph in `callback_metrics`.
            sync_dist: Reduce over the ranks when it is given out: True always, False never; by default
                epoch values are reduced and step values are those of the rank.
            sync_dist_group: Reduce over this process group only.
            add_dataloader_idx: Tell evaluation loaders apart by a suffix.
            batch_size: Weight of the value; default the first dimension of the batch's first tensor.
            metric_attribute: Where the module holds the metric; default found by identity.
            rank_zero_only: Only rank 0 logs it; then it cannot be monitored.

        Raises:
            ConfigError: When the value is no number, or logging it here has no meaning.
        """
        trainer = self._trainer
        if trainer is None:
            return self._log_without_trainer({name: value}, logger)
        trainer.logbook.log(
            self,  # pyright: ignore[reportArgumentType] - a Module
            name,
            value,
            batch_size,
            add_dataloader_idx,
            metric_attribute,
            (
                prog_bar,
                logger,
                on_step,
                on_epoch,
                reduce_fx,
                enable_graph,
                sync_dist,
                sync_dist_group,
                rank_zero_only,
            ),
        )

    @untraced
    def log_dict(self, dictionary: Mapping[str, Any] | Any, **options: Any) -> None:
        """Log several numbers with the same options, see `log`.

        Args:
            dictionary: Names and values, or a torchmetrics MetricCollection.
            options: The other arguments of `log`, but `metric_attribute`.
        """
        if self._trainer is None:
            return self._log_without_trainer(dict(items_of(dictionary)), options.get("logger"))
        for name, value in items_of(dictionary):
            self.log(name, value, **options)

    def _log_without_trainer(self, values: Mapping[str, Any], logger: bool | None) -> None:
        if self._fabric is None:
            name = next(iter(values), "")
            warnings.warn(
                f"log({name!r}) does nothing: no Trainer runs this {type(self).__name__}. Use trainer.fit, "
                "or call its steps without logging.",
                stacklevel=5,
            )
        elif logger is not False:
            self._fabric.log_dict({name: as_number(name, value) for name, value in values.items()})

    def print(self, *args: Any, **kwargs: Any) -> None:
        """`print` on rank 0, above the progress bar if there is one."""
        runner = self._trainer if self._trainer is not None else self._fabric
        if runner is not None and not runner.is_global_zero:
            return
        bar: Any = None if self._trainer is None else self._trainer.progress_bar_callback
        (bar.print if bar is not None and bar.is_enabled else print)(*args, **kwargs)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Tensors and numbers of all ranks, stacked in a new first dimension; all ranks call it.

        Args:
            data: A tensor, a number, or nested ones, of the same shapes on all ranks.
            group: Only among these processes.
            sync_grads: Let gradients flow back to the rank that a value came from.
        """
        fabric = self._trainer.fabric if self._trainer is not None else self._fabric
        if fabric is None:
            raise ConfigError(
                "all_gather(data)", "...", "no Trainer and no Fabric runs the module", "Use one"
            )
        return cast("Any", fabric).all_gather(data, group=group, sync_grads=sync_grads)
