"""Average the weights of the last epochs while the learning rate stays high."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.optim.swa_utils import SWALR

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback
from blixt.trainer.logbook import Page
from blixt.trainer.optimizers import SchedulerConfig

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

AverageFn = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class StochasticWeightAveraging(Callback):
    """Makes the mean of many good weights, which often generalises better than any of them.

    By Izmailov and others: "Averaging Weights Leads to Wider Optima and Better Generalization" (UAI 2018).

    From one epoch on the learning rate goes to `swa_lrs`, and the weights at the beginning of that epoch and
    at the end of it and of each later one are averaged. When training ends the module gets the average, and
    its batch norms new statistics from one pass over the training data. Unlike in Lightning the weights that
    the last epoch ends with are part of the average, as in the paper.

    Args:
        swa_lrs: The learning rate while averaging, or one for each parameter group.
        swa_epoch_start: The first epoch of averaging, counted from 1; or which part of `max_epochs` is over
            then.
        annealing_epochs: In how many epochs the learning rate goes there.
        annealing_strategy: In which shape: "cos" or "linear".
        avg_fn: New average from the average, the weight and how many were averaged; default the mean.
        device: Where the average is kept; None for beside the weights.
    """

    def __init__(
        self,
        swa_lrs: float | list[float],
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: AverageFn | None = None,
        device: torch.device | str | None = "cpu",
    ) -> None:
        _check(swa_lrs, swa_epoch_start, annealing_epochs, annealing_strategy)
        self._lrs = swa_lrs
        self._start = swa_epoch_start
        self._annealing: tuple[int, Literal["cos", "linear"]] = (annealing_epochs, annealing_strategy)
        self._avg_fn = avg_fn if avg_fn is not None else _mean
        self._device = None if device is None else torch.device(device)
        self._first = 0
        self._average: list[torch.Tensor] = []
        self._restored: dict[str, Any] = {}
        self._scheduler: SWALR | None = None
        self._latest_update_epoch = -1
        self.n_averaged = torch.tensor(0)

    @property
    def swa_start(self) -> int:
        """Index of the first epoch of averaging, from 0."""
        return self._first

    # --- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The average and how many it is made of."""
        return {
            "n_averaged": int(self.n_averaged),
            "latest_update_epoch": self._latest_update_epoch,
            "scheduler_state": None if self._scheduler is None else self._scheduler.state_dict(),
            "average_model_state": None if not self._average else list(self._average),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with that average."""
        self._restored = dict(state_dict)

    # --- training ---------------------------------------------------------------------------------

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Settle when it begins, and refuse what cannot work."""
        if len(trainer.optimizers) != 1 or len(trainer.lr_scheduler_configs) > 1:
            reason = f"there are {len(trainer.optimizers)} optimizers and {len(trainer.lr_scheduler_configs)}"
            raise ConfigError(
                "Trainer(callbacks)", "StochasticWeightAveraging", f"{reason} schedulers", "It works with one"
            )
        if trainer.max_epochs == -1:
            reason = "without a last epoch nobody knows which are the last ones"
            raise ConfigError("Trainer(max_epochs)", -1, reason, "Give a number of epochs")
        start = self._start
        first = int(trainer.max_epochs * start) if isinstance(start, float) else start
        self._first = max(first - 1, 0)
        self.n_averaged = torch.tensor(int(self._restored.get("n_averaged", 0)))
        self._latest_update_epoch = int(self._restored.get("latest_update_epoch", -1))
        kept: list[torch.Tensor] | None = self._restored.get("average_model_state")
        self._average = [tensor.to(self._device or module.device) for tensor in kept or []]
        self._scheduler = None
        if self._average:
            self._take_over_rate(trainer, self._restored.get("scheduler_state"))
        self._restored = {}

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin to average with the weights that come into the first epoch of it."""
        if trainer.current_epoch < self._first or self._average:
            return
        self._take_over_rate(trainer, None)
        self._average = [_copy(p, self._device) for p in module.parameters()]
        self.n_averaged += 1

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Add the weights with which the epoch ends."""
        epoch = trainer.current_epoch
        if self._average and epoch > self._latest_update_epoch:
            self._update(module)
            self._latest_update_epoch = epoch

    def on_train_end(self, trainer: "Trainer", module: "Module") -> None:
        """The module gets the average, and its batch norms the statistics that go with it."""
        if not self._average:
            return
        with torch.no_grad():
            for parameter, average in zip(module.parameters(), self._average, strict=True):
                parameter.copy_(average)
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        if norms:
            _recompute_statistics(trainer, module, norms)

    # --- how --------------------------------------------------------------------------------------

    @torch.no_grad()
    def _update(self, module: "Module") -> None:
        for average, parameter in zip(self._average, module.parameters(), strict=True):
            average.copy_(self._avg_fn(average, parameter.detach().to(average.device), self.n_averaged))
        self.n_averaged += 1

    def _take_over_rate(self, trainer: "Trainer", state: dict[str, Any] | None) -> None:
        """Let the learning rate go to `swa_lrs`, in place of the scheduler that ruled so far."""
        optimizer = trainer.optimizers[0]
        optimizer = getattr(optimizer, "optimizer", optimizer)
        count = len(optimizer.param_groups)
        rates = self._lrs if isinstance(self._lrs, list) else [float(self._lrs)] * count
        if len(rates) != count:
            reason = f"the optimizer has {count} parameter groups"
            raise ConfigError(
                "StochasticWeightAveraging(swa_lrs)", self._lrs, reason, "Give one rate for each"
            )
        epochs, shape = self._annealing
        self._scheduler = SWALR(optimizer, cast("Any", rates), epochs, shape)
        if state is not None:
            self._scheduler.load_state_dict(state)
        trainer.lr_scheduler_configs[:] = [SchedulerConfig(self._scheduler)]


def _mean(average: torch.Tensor, weight: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    return average + (weight - average) / (count.to(average.device) + 1)


def _copy(tensor: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    copy = tensor.detach().clone()
    return copy if device is None else copy.to(device)


def _recompute_statistics(trainer: "Trainer", module: "Module", norms: list[Any]) -> None:
    """One pass over the training data, without learning; plain means over all batches."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    logbook, was_training = trainer.logbook, module.training
    before = logbook.turn_to(Page())
    module.train()
    try:
        with torch.no_grad():
            for index, batch in enumerate(trainer.train_batches()):
                logbook.hook = "training_step"
                module.training_step(batch, index)
    finally:
        logbook.hook = None
        logbook.turn_to(*before)
        module.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if trainer.world_size > 1:
        for norm in norms:
            for value in (norm.running_mean, norm.running_var):
                value.copy_(trainer.fabric.all_reduce(value, "mean"))


def _check(lrs: float | list[float], start: Any, epochs: int, shape: str) -> None:
    owner = "StochasticWeightAveraging"
    whole, part = isinstance(start, int) and start >= 1, isinstance(start, float) and 0.0 <= start <= 1.0
    if not (whole or part):
        reason = "it is an epoch (int from 1) or a part of them (float up to 1.0)"
        raise ConfigError(f"{owner}(swa_epoch_start)", start, reason, "Use e.g. 0.8")
    rates = lrs if isinstance(lrs, list) else [lrs]
    if not rates or any(rate <= 0 for rate in rates):
        raise ConfigError(f"{owner}(swa_lrs)", lrs, "a learning rate is positive", "Use e.g. 0.01")
    if epochs < 0:
        raise ConfigError(f"{owner}(annealing_epochs)", epochs, "it counts epochs", "Use 0 or more")
    if shape not in ("cos", "linear"):
        raise ConfigError(f"{owner}(annealing_strategy)", shape, "it is unknown", "Use 'cos' or 'linear'")
