"""Which hooks are really there, found out once."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.base import Checkpoint
from blixt.trainer.callbacks.early_stopping import EarlyStopping

if TYPE_CHECKING:
    from blixt.trainer.logbook import Logbook
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

Hook = Callable[..., Any]


def overridden(item: object, name: str, base: type) -> bool:
    """Whether `item` brings its own method `name` instead of the one of `base`; None on it is none."""
    if name in vars(item):
        return vars(item)[name] is not None
    own = getattr(type(item), name, None)
    return own is not None and own is not getattr(base, name, None)


class HookPlan:
    """For each event, the bound methods that somebody overrides: callbacks first, then the module.

    Checkpoint callbacks come last among the callbacks, so that they see what the others did. Those that
    watch a metric even come after the module when an epoch of training ends, because the module may log that
    metric there. While a hook runs the logbook knows its name, because `log` means different things in
    different hooks.

    Args:
        trainer: Given to the callbacks.
        module: Given to the callbacks; its own hooks come after theirs.
        callbacks: In their order; the list is read when an event is first asked for.
        logbook: Is told which hook runs.
        profiler: Measures every hook, if there is one.
    """

    def __init__(
        self,
        trainer: "Trainer",
        module: "Module",
        callbacks: Sequence[Callback],
        logbook: "Logbook",
        profiler: Any = None,
    ) -> None:
        self._trainer = trainer
        self._module = module
        self._callbacks = callbacks
        self._logbook = logbook
        self._profiler = profiler
        self._plans: dict[str, tuple[Hook, ...]] = {}

    def of(self, event: str) -> tuple[Hook, ...]:
        """What to call for `event`, without trainer and module, which are bound already."""
        plan = self._plans.get(event)
        if plan is None:
            plan = self._plans[event] = self._ordered(event)
        return plan

    def of_callbacks(self, event: str) -> tuple[Hook, ...]:
        """The callbacks' part of `of(event)`."""
        return tuple(self._of_callback(event, callback) for callback in self._with(event))

    def of_module(self, event: str) -> tuple[Hook, ...]:
        """The module's part of `of(event)`: one hook or none."""
        from blixt.trainer.module import Module

        if not hasattr(self._module, event) or not overridden(self._module, event, Module):
            return ()
        label = f"[LightningModule]{type(self._module).__name__}.{event}"
        return (self._noted(event, getattr(self._module, event), (), label),)

    def owners(self, event: str) -> list[object]:
        """Who has a hook of its own for `event`."""
        return [*self._with(event), *([self._module] if self.of_module(event) else [])]

    def call(self, event: str, *args: Any) -> None:
        """Call every hook of `event`; for events outside of the batch loop."""
        for hook in self.of(event):
            hook(*args)

    def call_callbacks(self, event: str, *args: Any) -> None:
        """Call the callbacks' hooks only."""
        for hook in self.of_callbacks(event):
            hook(*args)

    def call_module(self, event: str, *args: Any) -> None:
        """Call the module's hook only."""
        for hook in self.of_module(event):
            hook(*args)

    def of_data(self, owner: object, event: str) -> Hook:
        """A method of module or data module that is called whether overridden or not, and measured."""
        from blixt.trainer.module import Module

        kind = "LightningModule" if isinstance(owner, Module) else "LightningDataModule"
        return profiled(getattr(owner, event), self._profiler, f"[{kind}]{type(owner).__name__}.{event}")

    def _ordered(self, event: str) -> tuple[Hook, ...]:
        module, callbacks = self.of_module(event), self._with(event)
        late = [c for c in callbacks if event == "on_train_epoch_end" and watches(c)]
        early = [callback for callback in callbacks if callback not in late]
        hooks = [[self._of_callback(event, callback) for callback in part] for part in (early, late)]
        return (*hooks[0], *module, *hooks[1])

    def _with(self, event: str) -> list[Callback]:
        return [callback for callback in self._callbacks if overridden(callback, event, Callback)]

    def _of_callback(self, event: str, callback: Callback) -> Hook:
        label = f"[Callback]{callback.state_key}.{event}"
        return self._noted(event, getattr(callback, event), (self._trainer, self._module), label)

    def _noted(self, event: str, method: Hook, bound: tuple[Any, ...], label: str) -> Hook:
        logbook = self._logbook

        def hook(*args: Any) -> Any:
            outer, logbook.hook = logbook.hook, event
            try:
                return method(*bound, *args)
            finally:
                logbook.hook = outer

        return hook if self._profiler is None else profiled(hook, self._profiler, label)


def watches(callback: Callback) -> bool:
    """Whether this callback decides by a metric: checkpoints and early stopping."""
    return isinstance(callback, (Checkpoint, EarlyStopping))


def profiled(function: Callable[..., Any], profiler: Any, label: str) -> Callable[..., Any]:
    """`function`, measured under `label`; itself when there is no profiler."""
    if profiler is None:
        return function

    def measured(*args: Any, **kwargs: Any) -> Any:
        with profiler.profile(label):
            return function(*args, **kwargs)

    return measured


def watched(items: Iterable[Any], profiler: Any, label: str) -> Iterable[Any]:
    """The same items, with the wait for each measured under `label`; themselves without a profiler."""
    if profiler is None:
        return items
    from blixt.trainer.profilers.instrument import timed_items

    return timed_items(profiler, label, items)
