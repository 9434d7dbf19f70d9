"""The verbs of Fabric for checkpoints."""

import os
from collections.abc import Callable, Mapping
from typing import Any, cast
from weakref import WeakSet

from torch import nn
from torch.optim import Optimizer

from blixt.fabric.compiled import unwrap_compiled
from blixt.fabric.errors import ConfigError, MissingEntryError, WrongTypeError, nearest
from blixt.fabric.place import Place
from blixt.fabric.wrapped_optimizer import unwrap_optimizer
from blixt.fabric.wrappers import FabricModule

PathLike = str | os.PathLike[str]
Filter = Callable[[str, Any], bool]


class Files(Place):
    """Saves and loads whatever the strategy made of modules and optimizers."""

    _modules: WeakSet[FabricModule]

    def save(
        self, path: PathLike, state: Mapping[str, Any], filter: Mapping[str, Filter] | None = None
    ) -> None:
        """Write a checkpoint; call it on all ranks.

        Args:
            path: A file (or, with a sharded strategy, a directory), which appears whole or not at all.
            state: Modules, optimizers, loaders (anything with `state_dict`) and plain values, by name.
            filter: By name in `state`, a function of key and value that says what of that item's state is
                kept.

        Raises:
            ConfigError: When `filter` names what is not in `state`, or is not made of functions.
            CheckpointError: When the file cannot be written.
        """
        self._connect()
        filters = _checked_filters(filter, state)
        content = {name: self._state_of(item) for name, item in state.items()}
        for name, keep in filters.items():
            content[name] = {key: value for key, value in content[name].items() if keep(key, value)}
        self._strategy.save_checkpoint(path, content)

    def load(
        self,
        path: PathLike,
        state: dict[str, Any] | None = None,
        strict: bool = True,
        *,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: What `save` wrote.
            state: Objects to restore in place, by name; plain values in it are replaced.
            strict: Whether the file must hold every name of `state`, and modules' states every key.
            weights_only: Refuse files that hold more than tensors and plain values; None means True.

        Returns:
            What was in the file and not in `state`; all of it without `state`.

        Raises:
            CheckpointError: When there is no such file, it is damaged, or lacks a name; then nothing is
                restored.
        """
        self._connect()
        content = self._strategy.load_checkpoint(path, weights_only=weights_only is not False)
        if state is None:
            return content
        missing = [name for name in state if name not in content]
        if missing and strict:
            found = ", ".join(sorted(map(str, content))) or "nothing"
            raise MissingEntryError(f"The checkpoint {path} has no {missing[0]!r}. It holds {found}.")
        for name in [name for name in state if name in content]:
            if not self._restore(state[name], content[name], strict):
                state[name] = content[name]
        return {name: item for name, item in content.items() if name not in state}

    def load_raw(
        self,
        path: PathLike,
        obj: nn.Module | Optimizer,
        strict: bool = True,
        *,
        weights_only: bool | None = True,
    ) -> None:
        """Load a file that holds nothing but one `state_dict`, such as published weights.

        Args:
            path: A file of `torch.save(module.state_dict(), path)`.
            obj: A module or optimizer, set up or not.
            strict: Whether a module's keys must match; optimizers always do.
            weights_only: Refuse files that hold more than tensors and plain values; None means True.
        """
        self._connect()
        content = self._strategy.load_checkpoint(path, weights_only=weights_only is not False)
        if not self._restore(obj, content, strict):
            kind = type(obj).__name__
            raise WrongTypeError("load_raw(obj)", kind, "it takes no state", "Give a module or an optimizer")

    def _state_of(self, item: Any) -> Any:
        item = unwrap_compiled(item)[0]
        if isinstance(item, FabricModule):
            return self._strategy.module_state(item.module)
        if isinstance(item, nn.Module):
            return self._strategy.module_state(item)
        if isinstance(item, Optimizer):
            owner = self._module_of(item)
            raw = unwrap_optimizer(item)
            return raw.state_dict() if owner is None else self._strategy.optimizer_state(owner, raw)
        return item.state_dict() if callable(getattr(item, "state_dict", None)) else item

    def _restore(self, item: Any, loaded: Any, strict: bool) -> bool:
        """Give `item` its state; False when it is a plain value."""
        item = unwrap_compiled(item)[0]
        if isinstance(item, FabricModule):
            self._strategy.load_module_state(item.module, loaded, strict)
        elif isinstance(item, nn.Module):
            self._strategy.load_module_state(item, loaded, strict)
        elif isinstance(item, Optimizer):
            owner, raw = self._module_of(item), unwrap_optimizer(item)
            if owner is None:
                raw.load_state_dict(loaded)
            else:
                self._strategy.load_optimizer_state(owner, raw, loaded)
        elif callable(getattr(item, "load_state_dict", None)):
            item.load_state_dict(loaded)
        else:
            return False
        return True

    def _module_of(self, optimizer: Any) -> nn.Module | None:
        """The module that was set up and whose parameters `optimizer` steps, or None."""
        own = cast("dict[str, Any]", vars(optimizer)).get("module")
        if own is not None:
            return own
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for wrapped in self._modules:
            if any(id(parameter) in stepped for parameter in wrapped.module.parameters()):
                return wrapped.module
        return None


def _checked_filters(filters: Any, state: Mapping[str, Any]) -> dict[str, Filter]:
    if filters is None:
        return {}
    if not isinstance(filters, Mapping):
        raise WrongTypeError("save(filter)", filters, "it is not by name", "Use {'model': function}")
    checked = cast("Mapping[str, Filter]", filters)
    for name, keep in checked.items():
        if name not in state:
            hint = nearest(name, state).rstrip("?")
            raise ConfigError("save(filter)", name, "the state has no such name", hint)
        if not callable(keep):
            raise WrongTypeError("save(filter)", keep, "it is no function", "Use one of (key, value)")
    return dict(checked)
