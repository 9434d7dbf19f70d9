"""Hyper-parameters in files of their own: YAML as loggers write it, and the older table of tags."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, cast

import yaml

from blixt.fabric import rank_zero_warn

Plain = str | os.PathLike[str]


def _mapping(hparams: object) -> dict[str, Any]:
    """A dict of them, whether they came as a namespace or a mapping."""
    return vars(hparams) if isinstance(hparams, Namespace) else dict(cast("Mapping[str, Any]", hparams))


def save_hparams_to_yaml(config_yaml: Plain, hparams: Mapping[str, Any] | Namespace) -> None:
    """Write hyper-parameters; of an enum its member's name, of what YAML cannot hold its own, with a warning.

    Raises:
        RuntimeError: When the folder does not exist.
    """
    path = Path(config_yaml)
    if not path.parent.is_dir():
        raise RuntimeError(f"Missing folder: {path.parent}.")
    plain: dict[str, Any] = {}
    for name, value in _mapping(hparams).items():
        held = value.name if isinstance(value, Enum) else value
        try:
            yaml.safe_dump(held)
            plain[name] = held
        except yaml.YAMLError:
            plain[name] = getattr(value, "__name__", type(value).__name__)
            rank_zero_warn(f"The hyper-parameter {name!r} is no YAML: only {plain[name]} is written.")
    path.write_text(yaml.safe_dump(plain))


def load_hparams_from_yaml(config_yaml: Plain, use_omegaconf: bool = True) -> dict[str, Any]:
    """Read what `save_hparams_to_yaml` wrote; {} when there is no such file. No objects are made from it."""
    path = Path(config_yaml)
    if not path.is_file():
        return {}
    return cast("dict[str, Any]", yaml.safe_load(path.read_text()) or {})


def save_hparams_to_tags_csv(tags_csv: Plain, hparams: Mapping[str, Any] | Namespace) -> None:
    """Write hyper-parameters as a table of `key` and `value`."""
    with Path(tags_csv).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "value"])
        writer.writerows(_mapping(hparams).items())


def load_hparams_from_tags_csv(tags_csv: Plain) -> dict[str, Any]:
    """Read what `save_hparams_to_tags_csv` wrote; {} when there is no such file."""
    path = Path(tags_csv)
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {row["key"]: _value(row["value"]) for row in csv.DictReader(file)}


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
