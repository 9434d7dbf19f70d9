"""Find and set a number that a module, its data module or their hyperparameters hold."""

from collections.abc import Iterable
from typing import Any, cast

from blixt.fabric import ConfigError


def holders(objects: Iterable[Any], name: str) -> list[Any]:
    """Those of the objects and of their `hparams` that have `name`."""
    found: list[Any] = []
    for item in objects:
        if item is None:
            continue
        if hasattr(item, name):
            found.append(item)
        hparams = getattr(item, "hparams", None)
        if isinstance(hparams, dict) and name in hparams:
            found.append(cast("dict[str, Any]", hparams))
    return found


def get_number(objects: Iterable[Any], name: str) -> Any:
    """The value of `name`, wherever it is; None when it is nowhere."""
    for holder in holders(objects, name):
        if isinstance(holder, dict):
            return cast("dict[str, Any]", holder)[name]
        return getattr(holder, name)
    return None


def set_number(objects: Iterable[Any], name: str, value: Any) -> None:
    """Set `name` wherever it is."""
    for holder in holders(objects, name):
        if isinstance(holder, dict):
            holder[name] = value
        else:
            setattr(holder, name, value)


def learning_rate_name(module: Any, given: str) -> str:
    """The attribute that holds the learning rate: the given one, `lr` or `learning_rate`.

    Raises:
        ConfigError: When the module has none of them.
    """
    names = (given,) if given else ("lr", "learning_rate")
    for name in names:
        if holders([module], name):
            return name
    reason = f"neither {type(module).__name__} nor its hparams have {' or '.join(names)}"
    raise ConfigError("lr_find(attr_name)", given, reason, "Name the attribute, or pass update_attr=False")
