"""What makes a run the run it is: settings that a restart has to repeat, and those that it may change."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from blixt.llm.errors import RecipeError
from blixt.llm.recipes.config import to_dict

_FREE = (
    *("out", "merge", "micro_batch_size", "max_batch", "val_every", "val_batches", "epochs", "steps"),
    *("parallel", "log", "checkpoint"),
)
"""Where results go, how often is looked, how work is divided: nothing that is learned depends on them."""
_TAKEN = ("data", "val_data", "precision", "optim")
"""May change on the way, and are told when they do. That `data` still holds the same is another check."""


def identity(config: Any, **resolved: Any) -> dict[str, Any]:
    """The settings that a run keeps from its first step to its last.

    Args:
        config: A recipe's settings.
        **resolved: What was worked out from them, such as `steps`; beats a setting of the same name.
    """
    values = {name: value for name, value in to_dict(config).items() if name not in (*_FREE, *_TAKEN)}
    return {**values, "optim": config.optim.name, **resolved}


def changeable(config: Any) -> dict[str, Any]:
    """The settings that a restart may change, by dotted name: it goes on with the new values."""
    values = to_dict(config)
    found = {name: values[name] for name in _TAKEN if name in values and name != "optim"}
    return found | {f"optim.{name}": value for name, value in values["optim"].items() if name != "name"}


def check(identity: Mapping[str, Any], saved: Mapping[str, Any], folder: Path) -> None:
    """Compare with what a run was begun with.

    Raises:
        RecipeError: Something else was given; the sentence says what.
    """
    for name, value in as_json(identity).items():
        if name in saved and saved[name] != value:
            where, before, now = _deepest(name, saved[name], value)
            raise RecipeError(
                f"the run in {folder} was begun with {where}={before!r}, not {now!r}: "
                "give the same, another checkpoint.dir, or --checkpoint.resume false to begin anew"
            )


def changes(now: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """What is no longer as a run was begun, as the end of a sentence; empty when nothing is."""
    found = [
        f"{name}={value!r}, begun with {saved[name]!r}"
        for name, value in as_json(now).items()
        if name in saved and saved[name] != value
    ]
    return f" with {'; '.join(found)}" if found else ""


def digest(*values: Any) -> str:
    """A short text that is another one when the values are."""
    return sha256(json.dumps(values, default=str, sort_keys=True).encode()).hexdigest()[:16]


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are after they were written down and read."""
    return json.loads(json.dumps(values))


def _deepest(name: str, saved: Any, value: Any) -> tuple[str, Any, Any]:
    """Of two sections the first setting in which they differ."""
    while isinstance(saved, dict) and isinstance(value, dict):
        before, now = cast("dict[str, Any]", saved), cast("dict[str, Any]", value)
        key = next(key for key in [*now, *before] if before.get(key) != now.get(key))
        name, saved, value = f"{name}.{key}", before.get(key), now.get(key)
    return name, cast("Any", saved), value
