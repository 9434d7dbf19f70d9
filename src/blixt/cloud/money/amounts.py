"""Arithmetic of money: pure functions on integers."""

from datetime import UTC, datetime

CREDIT_UC = 1_000_000
HOUR_US = 3_600_000_000


def to_us(seconds: float) -> int:
    """Return unix seconds as whole microseconds, the only conversion from float in money."""
    return round(seconds * 1_000_000)


def charge_uc(duration_us: int, price_uc_per_hour: int) -> int:
    """Return what a duration costs, rounded down; a negative duration (a clock set back) costs nothing.

    >>> charge_uc(1_800_000_000, 50_000)
    25000
    """
    return max(0, duration_us) * price_uc_per_hour // HOUR_US


def hold_uc(duration_us: int, price_uc_per_hour: int) -> int:
    """Return what to set aside for a duration, rounded up.

    >>> hold_uc(1, 50_000)
    1
    """
    return -(-max(0, duration_us) * price_uc_per_hour // HOUR_US)


def covered_us(held_uc: int, price_uc_per_hour: int) -> int | None:
    """Return how long a hold pays for; None when the machine is free."""
    return None if price_uc_per_hour == 0 else held_uc * HOUR_US // price_uc_per_hour


def month_start_us(at_us: int) -> int:
    """Return the first moment of the calendar month (UTC) of `at_us`."""
    at = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()) * 1_000_000


def credits_text(amount_uc: int) -> str:
    """Return an amount for people, exactly: four decimals, or more where it has more.

    >>> credits_text(1_234_500), credits_text(42)
    ('1.2345 cr', '0.000042 cr')
    """
    sign, rest = ("-" if amount_uc < 0 else ""), abs(amount_uc)
    digits = f"{rest % CREDIT_UC:06d}"
    return f"{sign}{rest // CREDIT_UC}.{digits[:4]}{digits[4:].rstrip('0')} cr"
