"""Objects from a class path and its arguments."""

# jsonargparse leaves the keyword arguments of its methods untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

import jsonargparse

from blixt.trainer.hparams import given_hyperparameters

if TYPE_CHECKING:
    from blixt.trainer.cli.app import CLI

T = TypeVar("T")
INSTANTIATOR = "blixt.trainer.cli.instantiate_module"


def instantiate_class(args: Any, init: Mapping[str, Any]) -> Any:
    """Make an object.

    Args:
        args: The first arguments: one value, or a tuple of several.
        init: "class_path", and "init_args" for the rest.

    Example:
        >>> instantiate_class((), {"class_path": "datetime.timedelta", "init_args": {"hours": 1}})
        datetime.timedelta(seconds=3600)
    """
    first: tuple[Any, ...] = cast("tuple[Any, ...]", args) if isinstance(args, tuple) else (args,)
    module, _, name = str(init["class_path"]).rpartition(".")
    return getattr(import_module(module), name)(*first, **(init.get("init_args") or {}))


def instantiate_module(class_type: type[T], config: Mapping[str, Any]) -> T:
    """Make a module or data module again from the hyperparameters that a `CLI` saved.

    Args:
        class_type: The class, or a base of the one that "_class_path" names.
        config: Its arguments as plain values.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    values = {name: value for name, value in config.items() if name != "_class_path"}
    if "_class_path" in config:
        parser.add_subclass_arguments(class_type, "module", fail_untyped=False)
        values = {"class_path": config["_class_path"], "dict_kwargs": values}
    else:
        parser.add_class_arguments(class_type, "module", fail_untyped=False)
    made = parser.instantiate_classes(parser.parse_object({"module": values}))
    return cast("T", made["module"])


class RecordingInstantiator:
    """Makes the module or data module of a `CLI`, and lets it save the parsed values as hyperparameters.

    Objects among the arguments are then saved as the plain values that they were made from, so that
    `load_from_checkpoint` can make them again.

    Args:
        cli: Whose configuration it is.
        key: "model" or "data".
    """

    def __init__(self, cli: "CLI", key: str) -> None:
        self._cli = cli
        self._key = key

    def __call__(
        self,
        class_type: Callable[..., T],
        *args: Any,
        applied_instantiation_links: dict[str, Any],
        **kwargs: Any,
    ) -> T:
        """Make it."""
        values: dict[str, Any] = self._cli.plain_config().get(self._key) or {}
        if "class_path" in values:
            # The values stand as they would without subclasses; the class has a key of its own.
            named: dict[str, Any] = {**(values.get("init_args") or {}), **(values.get("dict_kwargs") or {})}
            values = {"_class_path": values["class_path"], **named}
        for target, value in applied_instantiation_links.items():
            if target.startswith(f"{self._key}."):
                path = target.removeprefix(f"{self._key}.").removeprefix("init_args.")
                _set_nested(values, path, value)
        with given_hyperparameters(values, INSTANTIATOR):
            return class_type(*args, **kwargs)


def _set_nested(values: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        values = values[name]
    values[last] = value
