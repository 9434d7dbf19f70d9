"""Sizes as people write them."""

import re

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(size: str | int) -> int:
    """Return a size in bytes.

    Raises:
        ValueError: when it is no positive size.

    Example:
        >>> parse_size("64MB"), parse_size("1 KiB"), parse_size(12)
        (64000000, 1024, 12)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", str(size).strip())
    if (
        match is None
        or match[2].upper() not in _UNITS
        or not (size_bytes := int(float(match[1]) * _UNITS[match[2].upper()]))
    ):
        raise ValueError(f"{size!r} is not a size; write a number of bytes or something like '64MB'")
    return size_bytes
