"""How often something happens: "0.5ep", "500ba", "10min", or the older forms of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

from blixt.fabric.errors import ConfigError

Unit = Literal["epochs", "batches", "seconds"]
IntervalLike = int | float | str | timedelta | Mapping[str, float]
"""What `Interval.parse` takes besides an `Interval`."""

_UNITS: dict[str, tuple[Unit, float]] = {
    "ep": ("epochs", 1.0),
    "ba": ("batches", 1.0),
    "s": ("seconds", 1.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
}
_EXAMPLES = "Use e.g. '0.5ep', '500ba', '10min', '2h' or '00:02:00:00'"


@dataclass(frozen=True)
class Interval:
    """An amount of training.

    Attributes:
        value: How many of the unit; batches are whole.
        unit: Epochs (parts of one, or several), batches, or seconds of wall time.

    Example:
        >>> Interval.parse("10min")
        Interval(value=600.0, unit='seconds')
        >>> Interval.parse(0.25), Interval.parse(500)
        (Interval(value=0.25, unit='epochs'), Interval(value=500, unit='batches'))
    """

    value: float
    unit: Unit

    @classmethod
    def parse(cls, value: "Interval | IntervalLike", argument: str = "interval") -> "Interval":
        """From any of its forms.

        Args:
            value: An int counts batches, a float epochs; a string is a number with a unit (ep, ba, s, min,
                h, d) or "DD:HH:MM:SS"; a timedelta, or a dict for one, is wall time.
            argument: Whose value this is, for the error.

        Raises:
            ConfigError: When it is none of them, or not positive.
        """
        interval = value if isinstance(value, Interval) else cls._read(value, argument)
        if not interval.value > 0:
            raise ConfigError(argument, value, "an interval is longer than nothing", _EXAMPLES)
        return interval

    @classmethod
    def _read(cls, value: IntervalLike, argument: str) -> "Interval":
        if isinstance(value, bool):
            raise ConfigError(argument, value, "it is no amount", _EXAMPLES)
        if isinstance(value, int):
            return cls(value, "batches")
        if isinstance(value, float):
            return cls(value, "epochs")
        if isinstance(value, str) and ":" not in value:
            return cls._with_unit(value, argument)
        return cls(seconds(value, argument), "seconds")

    @classmethod
    def _with_unit(cls, text: str, argument: str) -> "Interval":
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*([a-z]+)\s*", text.lower())
        if match is None or match.group(2) not in _UNITS:
            raise ConfigError(argument, text, "it is no number with a unit", _EXAMPLES)
        unit, factor = _UNITS[match.group(2)]
        amount = float(match.group(1)) * factor
        if unit != "batches":
            return cls(amount, unit)
        if not amount.is_integer():
            raise ConfigError(argument, text, "batches come whole", "Use e.g. '500ba'")
        return cls(int(amount), unit)


def seconds(value: Any, argument: str) -> float:
    """Wall time from a timedelta, the arguments of one as a dict, "DD:HH:MM:SS", or e.g. "10min".

    Raises:
        ConfigError: When it is none of them.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        parts = dict(cast("Mapping[str, float]", value))
        try:
            return timedelta(**parts).total_seconds()
        except TypeError as error:
            raise ConfigError(argument, parts, str(error), "Use e.g. {'hours': 1}") from None
    if isinstance(value, str) and ":" not in value:
        interval = Interval.parse(value, argument)
        if interval.unit == "seconds":
            return interval.value
    match = re.fullmatch(r"(\d+):(\d+):(\d+):(\d+)", str(value).strip())
    if match is None:
        raise ConfigError(argument, value, "it is not DD:HH:MM:SS", "Use e.g. '00:01:30:00' or '90min'")
    days, hours, minutes, rest = (int(part) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=rest).total_seconds()
