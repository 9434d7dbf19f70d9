"""Which hooks are really there, found out once."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.logbook import Logbook
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

Hook = Callable[..., Any]


def overridden(item: object, name: str, base: type) -> bool:
    """Whether `item` brings its own method `name` instead of the one of `base`."""
    return name in vars(item) or getattr(type(item), name, None) is not getattr(base, name, None)


class HookPlan:
    """For each event, the bound methods that somebody overrides: callbacks first, then the module.

    Checkpoint callbacks come last among the callbacks, so that they see what the others did. While a hook
    runs the logbook knows its name, because `log` means different things in different hooks.
    """

    def __init__(
        self, trainer: "Trainer", module: "Module", callbacks: Sequence[Callback], logbook: "Logbook"
    ) -> None:
        self._trainer = trainer
        self._module = module
        self._callbacks = callbacks
        self._logbook = logbook
        self._plans: dict[str, tuple[Hook, ...]] = {}

    def of(self, event: str) -> tuple[Hook, ...]:
        """What to call for `event`, without trainer and module, which are bound already."""
        plan = self._plans.get(event)
        if plan is None:
            plan = self._plans[event] = (*self._of_callbacks(event), *self._of_module(event))
        return plan

    def of_callbacks(self, event: str) -> tuple[Hook, ...]:
        """The callbacks' part of `of(event)`."""
        return tuple(self._of_callbacks(event))

    def call(self, event: str, *args: Any) -> None:
        """Call every hook of `event`; for events outside of the batch loop."""
        for hook in self.of(event):
            hook(*args)

    def call_module(self, event: str, *args: Any) -> None:
        """Call the module's hook only."""
        for hook in self._of_module(event):
            hook(*args)

    def _of_callbacks(self, event: str) -> list[Hook]:
        return [
            self._noted(event, getattr(callback, event), (self._trainer, self._module))
            for callback in self._callbacks
            if overridden(callback, event, Callback)
        ]

    def _of_module(self, event: str) -> list[Hook]:
        from blixt.trainer.module import Module

        if not hasattr(self._module, event) or not overridden(self._module, event, Module):
            return []
        return [self._noted(event, getattr(self._module, event), ())]

    def _noted(self, event: str, method: Hook, bound: tuple[Any, ...]) -> Hook:
        logbook = self._logbook

        def hook(*args: Any) -> Any:
            outer, logbook.hook = logbook.hook, event
            try:
                return method(*bound, *args)
            finally:
                logbook.hook = outer

        return hook
