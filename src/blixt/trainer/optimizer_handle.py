"""What the loop and the user hold in place of a torch optimizer."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from torch.optim import Optimizer

from blixt.fabric.errors import ConfigError

if TYPE_CHECKING:
    from blixt.fabric import Fabric
    from blixt.trainer.module import Module

NoSync = Callable[[], AbstractContextManager[Any]]


def _nothing(*_: Any) -> None:
    pass


class TrainerOptimizer:
    """An optimizer whose `step` takes care of precision, strategy, hooks and counting.

    It looks like the optimizer that it holds: attributes are that one's, and `isinstance` says so too.

    Args:
        optimizer: The optimizer itself.
        fabric: With which precision and strategy it steps.
        module: Whose parameters it moves; None outside of a fit.
    """

    def __init__(self, optimizer: Optimizer, fabric: "Fabric", module: "Module | None" = None) -> None:
        base = type(optimizer)
        self._optimizer = optimizer
        self._fabric = fabric
        self._module = module
        self._before: Callable[[Optimizer], None] = _nothing
        self._after: Callable[[], None] = _nothing
        self._no_sync: NoSync = nullcontext
        looks = type(f"Trainer{base.__name__}", (TrainerOptimizer, base), {})
        self.__class__ = cast("Any", looks)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer itself."""
        return self._optimizer

    def attach(self, before: Callable[[Optimizer], None], after: Callable[[], None], no_sync: NoSync) -> None:
        """Say what else happens with a step.

        Args:
            before: Called with the optimizer when gradients are there (and unscaled), before it moves.
            after: Called when it has moved.
            no_sync: Makes a context in which backward keeps gradients to this process.
        """
        self._before, self._after, self._no_sync = before, after, no_sync

    def step(self, closure: Callable[[], Any] | None = None, **options: Any) -> Any:
        """Move the weights once.

        Args:
            closure: Computes loss and gradients; called once, or more often by optimizers that look around.
            options: For the optimizer's own `step`.

        Returns:
            What the closure, or the optimizer, returned.

        Raises:
            ConfigError: When the closure cannot be called, or is needed several times under a scaler.
        """
        if closure is not None and not callable(closure):
            raise ConfigError("optimizer.step(closure)", closure, "it cannot be called", "Give a function")
        scaler = self._fabric.scaler
        output = self._plain_step(closure, options) if scaler is None else self._scaled_step(closure, scaler)
        self._after()
        return output

    def _plain_step(self, closure: Callable[[], Any] | None, options: dict[str, Any]) -> Any:
        optimizer, before = self._optimizer, self._before

        def compute() -> Any:
            result = closure() if closure is not None else None
            before(optimizer)
            return result

        if options:
            return optimizer.step(compute, **options)
        return self._fabric.strategy.step(optimizer, compute)

    def _scaled_step(self, closure: Callable[[], Any] | None, scaler: Any) -> Any:
        optimizer = self._optimizer
        refuse_scaled_search(optimizer)
        result = closure() if closure is not None else None
        if closure is not None and result is None:
            self._before(optimizer)
            return None  # training_step skipped the batch: there is nothing to unscale
        scaler.unscale_(optimizer)
        self._before(optimizer)
        scaler.step(optimizer)
        scaler.update()
        return result

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Generator[None]:
        """Inside, only this optimizer's parameters want gradients.

        Args:
            sync_grad: False keeps gradients to this process, for steps that only gather them.
        """
        module = cast("Any", self._module)
        with nullcontext() if sync_grad else self._no_sync():
            module.toggle_optimizer(self)
            try:
                yield
            finally:
                module.untoggle_optimizer(self)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the optimizer's parameters."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """That of the optimizer."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Into the optimizer."""
        self.optimizer.load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """To the optimizer."""
        self.optimizer.add_param_group(param_group)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(vars(self)["_optimizer"], name)

    def __repr__(self) -> str:
        return f"Trainer{self.optimizer!r}"

    def __reduce__(self) -> Any:
        return TrainerOptimizer, (self.optimizer, self._fabric, self._module)


def refuse_scaled_search(optimizer: Optimizer) -> None:
    """Raise for optimizers that try several steps, whose losses a gradient scaler would make worthless."""
    from torch.optim import LBFGS

    if isinstance(optimizer, LBFGS):
        reason = "it computes the loss several times a step, which a gradient scaler cannot follow"
        raise ConfigError(
            "Trainer(precision)", "16-mixed", reason, "Use 'bf16-mixed' or '32-true' with LBFGS"
        )
