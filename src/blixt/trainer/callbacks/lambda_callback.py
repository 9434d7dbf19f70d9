"""A callback from functions."""

from collections.abc import Callable
from typing import Any

from blixt.fabric import reject_unknown
from blixt.trainer.callback import Callback

_NO_HOOKS = ("state_dict", "load_state_dict", "state_key")


class LambdaCallback(Callback):
    """Runs functions at hooks, without a class of your own.

    Args:
        hooks: The functions, by the name of the hook; each gets what the hook gets.

    Raises:
        UnknownArgumentError: For a name that is no hook.

    Example:
        >>> LambdaCallback(on_train_start=lambda trainer, module: print("here we go"))  # doctest: +ELLIPSIS
        <...LambdaCallback object at ...>
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        known = [name for name in dir(Callback) if not name.startswith("_") and name not in _NO_HOOKS]
        reject_unknown("LambdaCallback", [name for name in hooks if name not in known], known)
        vars(self).update({name: function for name, function in hooks.items() if function is not None})
