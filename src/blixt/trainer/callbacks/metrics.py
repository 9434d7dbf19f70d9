"""How callbacks read the metric that they watch."""

from collections.abc import Iterable

from blixt.fabric import ConfigError, nearest


def missing_metric(argument: str, monitor: str, known: Iterable[str]) -> ConfigError:
    """The error for a metric that nobody logged, with the nearest name that somebody did.

    Example:
        >>> str(missing_metric("EarlyStopping(monitor)", "val_los", ["val_loss"])).rpartition(": ")[2]
        "no such metric has been logged. Log it, or correct the name. Did you mean 'val_loss'?."
    """
    names = sorted(known)
    hint = nearest(monitor, names) if names else "Nothing has been logged so far"
    return ConfigError(
        argument, monitor, "no such metric has been logged", f"Log it, or correct the name. {hint}"
    )
