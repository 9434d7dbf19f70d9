"""The members of a tar archive in memory: name, where the content begins, how long it is."""

from collections.abc import Iterator

from blixt.data.errors import FormatError

_BLOCK = 512
_FILE_TYPES = (b"0", b"\0", b"7")


def members(archive: memoryview, where: str) -> Iterator[tuple[str, int, int]]:
    """Yield (name, start, size) of each regular file.

    Reads ustar, GNU (long names, large sizes) and pax (path, size) headers.

    Raises:
        FormatError: when the archive is damaged or cut short.
    """
    at = 0
    long_name, pax = "", {}
    while at + _BLOCK <= len(archive):
        header = bytes(archive[at : at + _BLOCK])
        if not header.strip(b"\0"):
            return
        if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise FormatError(f"{where} is no tar archive, or is damaged at byte {at}")
        size, kind = int(pax.get("size") or _number(header[124:136])), header[156:157]
        start = at + _BLOCK
        if start + size > len(archive):
            raise FormatError(f"{where} is cut short: a file at byte {at} has {size} bytes")
        at = start + -(-size // _BLOCK) * _BLOCK
        if kind == b"L":
            long_name = bytes(archive[start : start + size]).rstrip(b"\0").decode()
        elif kind == b"x":
            pax = _pax(bytes(archive[start : start + size]))
        elif kind != b"g":
            if kind in _FILE_TYPES:
                yield pax.get("path") or long_name or _name(header), start, size
            long_name, pax = "", {}


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: binary, when octal digits do not suffice
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return -1


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0].decode()
    prefix = header[345:500].partition(b"\0")[0].decode() if header[257:262] == b"ustar" else ""
    gnu = header[257:265] == b"ustar  \0"
    return f"{prefix}/{name}" if prefix and not gnu else name


def _pax(records: bytes) -> dict[str, str]:
    """Records of `length key=value` and a newline, where the length counts all of it."""
    found: dict[str, str] = {}
    while records:
        length = int(records.partition(b" ")[0])
        key, _, value = records[:length].partition(b" ")[2].rstrip(b"\n").partition(b"=")
        found[key.decode()] = value.decode()
        records = records[length:]
    return found
