"""The price list: machine types and what an hour of each costs, in a file people edit."""

import logging
import re
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from blixt.cloud.errors import Invalid
from blixt.cloud.money.amounts import CREDIT_UC

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_FIELDS = {"cpus", "memory_gb", "gpus", "price_per_hour"}

DEFAULT_PRICES = """\
# Machine types and their prices. Edit freely: the server reads this file again when it changes. What already
# runs keeps the price it started with. A file with a mistake is refused as a whole and the old prices stay.
#
# price_per_hour is in credits, to six decimals (1 credit = 1 000 000 micro-credits).

[machines.cpu-1]
cpus = 1
memory_gb = 2
price_per_hour = 0.05

[machines.cpu-2]
cpus = 2
memory_gb = 4
price_per_hour = 0.10

[machines.cpu-4]
cpus = 4
memory_gb = 8
price_per_hour = 0.20

[machines.cpu-8]
cpus = 8
memory_gb = 16
price_per_hour = 0.40

[machines.gpu-1]
cpus = 4
memory_gb = 16
gpus = 1
price_per_hour = 1.20
"""


@dataclass(frozen=True)
class Machine:
    """A machine type. Fractions of a CPU are allowed."""

    name: str
    cpus: float
    memory_gb: float
    gpus: int
    price_uc_per_hour: int

    def to_json(self) -> dict[str, Any]:
        """Return the machine type as the API sends it."""
        return asdict(self)


class PriceList:
    """The machine types of `prices.toml`, written with defaults when missing, read again when it changes.

    Args:
        path: The file.

    Raises:
        Invalid: When the file is wrong at start; later a wrong file is logged and the old prices stay.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        if not path.exists():
            path.write_text(DEFAULT_PRICES)
        self._stamp = self._look()
        self._machines = parse_prices(path.read_text(), path)
        self.problem = ""

    def machines(self) -> Mapping[str, Machine]:
        """Return the machine types by name, in the order of the file."""
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._reload()
            return self._machines

    def machine(self, name: str) -> Machine:
        """Return one machine type.

        Raises:
            Invalid: Listing the known ones.
        """
        machines = self.machines()
        if name not in machines:
            raise Invalid(
                f"There is no machine type {name[:80]!r}.", f"Choose one of: {', '.join(machines)}."
            )
        return machines[name]

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_size)

    def _reload(self) -> None:
        try:
            self._machines = parse_prices(self._path.read_text(), self._path)
            self.problem = ""
        except (OSError, UnicodeDecodeError, Invalid) as error:
            self.problem = str(error)
            _log.error("The old prices stay: %s", error)


def parse_prices(text: str, path: Path) -> dict[str, Machine]:
    """Read a price list.

    Raises:
        Invalid: Naming the machine and field that is wrong.
    """
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(
            f"{path} is not valid TOML: {error}.", "Mend the line, or delete the file for defaults."
        ) from None
    table = _table(data.get("machines"))
    if set(data) - {"machines"} or not table:
        raise Invalid(f"{path} must hold tables named [machines.NAME] and nothing else.", "See the defaults.")
    return {name: _machine(name, _table(fields), path) for name, fields in table.items()}


def _table(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _machine(name: str, fields: dict[str, Any], path: Path) -> Machine:
    where = f"{path}: [machines.{name}]"
    if not _NAME.match(name) or not fields:
        raise Invalid(f"{where} is no table with a valid name.", "Use lower-case letters, digits and dashes.")
    if unknown := set(fields) - _FIELDS:
        raise Invalid(
            f"{where}: there is no field {min(unknown)!r}.", f"Fields: {', '.join(sorted(_FIELDS))}."
        )
    values: dict[str, Any] = {"gpus": 0, **fields}
    for field in sorted(_FIELDS):
        value = values.get(field)
        if not _is_amount(value):
            raise Invalid(f"{where}: {field} must be a number from 0 to 1000000.", f"Mend {field}.")
    price = Decimal(values["price_per_hour"]) * CREDIT_UC
    if price != int(price):
        raise Invalid(f"{where}: price_per_hour has more than six decimals.", "Round it.")
    if values["cpus"] <= 0 or values["memory_gb"] <= 0 or values["gpus"] != int(values["gpus"]):
        raise Invalid(f"{where}: cpus and memory_gb must be above 0, gpus a whole number.", "Mend them.")
    return Machine(name, _plain(values["cpus"]), _plain(values["memory_gb"]), int(values["gpus"]), int(price))


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    return Decimal(value).is_finite() and 0 <= value <= 1_000_000


def _plain(value: int | Decimal) -> float:
    return int(value) if value == int(value) else float(value)
