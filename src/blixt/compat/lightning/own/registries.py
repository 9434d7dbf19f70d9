"""Names for strategies and accelerators of your own, registered as Lightning does it."""

from collections.abc import Callable
from typing import Any, TypeVar

from blixt.fabric import ACCELERATORS, Accelerator, ConfigError, Strategy, strategy_names
from blixt.fabric.strategies import register_strategy, resolve_strategy, unregister_strategy

Maker = TypeVar("Maker", bound=Callable[..., Any])


class _Registry(dict[str, dict[str, Any]]):
    """What was registered here, by name: its class, its arguments and what it is for."""

    KIND: str

    def register(
        self,
        name: str,
        thing: Callable[..., Any] | None = None,
        description: str | None = None,
        override: bool = False,
        **init_params: Any,
    ) -> Callable[..., Any]:
        """Register a class under a name; without the class, a decorator that does.

        Args:
            name: What `Trainer` and `Fabric` will be given.
            thing: The class, or a function that makes an object of it.
            description: What it is for.
            override: Replace what has the name.
            init_params: Arguments for it.

        Raises:
            WrongTypeError: When the name is no string.
            ConfigError: When the name is taken, and `override` is not set.
        """
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not checked
            raise TypeError(f"The name of a {self.KIND} is a string, not {name!r}. Give one such as 'mine'.")
        if name in self.available() and not override:
            raise ConfigError("register(name)", name, "it is taken", "Use another, or override=True")

        def register(made: Maker) -> Maker:
            self[name] = {
                "description": description or "",
                "init_params": init_params,
                self.KIND: made,
                f"{self.KIND}_name": name,
            }
            self._announce(name, lambda: made(**init_params))
            return made

        return register if thing is None else register(thing)

    def get(self, name: str, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - Lightning's
        """A new object of what has the name.

        Raises:
            KeyError: When nothing has, and there is no default.
        """
        if name in self.available():
            return self._make(name)
        if default is not None:
            return default
        known = ", ".join(sorted(self.available()))
        raise KeyError(f"There is no {self.KIND} {name!r}. Known are {known}.")

    def remove(self, name: str) -> None:
        """Forget a name that was registered here.

        Raises:
            KeyError: When it was not.
        """
        self.pop(name)
        self._forget(name)

    def available(self) -> list[str]:
        """Every name, blixt's own too."""
        raise NotImplementedError

    def _make(self, name: str) -> Any:
        raise NotImplementedError

    def _announce(self, name: str, make: Callable[[], Any]) -> None:
        raise NotImplementedError

    def _forget(self, name: str) -> None:
        raise NotImplementedError


class _Strategies(_Registry):
    KIND = "strategy"

    def available(self) -> list[str]:
        return strategy_names()

    available_strategies = available

    def _make(self, name: str) -> Strategy:
        return resolve_strategy(name)

    def _announce(self, name: str, make: Callable[[], Strategy]) -> None:
        register_strategy(name, make)

    def _forget(self, name: str) -> None:
        unregister_strategy(name)


class _Accelerators(_Registry):
    KIND = "accelerator"

    def available(self) -> list[str]:
        return ACCELERATORS.names()

    available_accelerators = available

    def _make(self, name: str) -> Accelerator:
        return ACCELERATORS[name]

    def _announce(self, name: str, make: Callable[[], Accelerator]) -> None:
        ACCELERATORS.register(make(), name)

    def _forget(self, name: str) -> None:
        ACCELERATORS.unregister(name)


StrategyRegistry = _Strategies()
"""Strategies by the name that `strategy=` takes."""
AcceleratorRegistry = _Accelerators()
"""Accelerators by the name that `accelerator=` takes."""
