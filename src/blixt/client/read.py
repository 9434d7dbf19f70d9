"""From the API's JSON to the dataclasses of `types.py`: strict about what is needed, lenient otherwise."""

from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

from blixt.client.errors import ProtocolError
from blixt.client.types import (
    Bill,
    BillLine,
    Identity,
    Member,
    ModelFile,
    ModelVersion,
    Run,
    Series,
    Teamspace,
)

Record = TypeVar("Record")


def record(cls: type[Record], value: dict[str, Any], **given: Any) -> Record:
    """Fill a dataclass from a JSON object; fields may be absent where None or a default is allowed.

    Raises:
        ProtocolError: When a field that must be there is not.
    """
    found = dict[str, Any](given)
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name in found:
            continue
        if value.get(field.name) is not None:
            found[field.name] = value[field.name]
        elif "None" in str(field.type):
            found[field.name] = None
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ProtocolError(
                f"The server's {cls.__name__} lacks the field {field.name!r}.",
                "Server and client are of different versions: install the same blixt on both sides.",
            )
    return cls(**found)


def number(value: Any) -> float:
    """A metric's value; `nan` and the infinities travel as strings."""
    return float(value)


def read_run(value: dict[str, Any]) -> Run:
    """A run with its summary as numbers."""
    last_values = cast(dict[str, Any], value.get("summary") or {})
    summary = {name: number(last) for name, last in last_values.items()}
    return record(Run, value, summary=summary)


def read_series(value: dict[str, Any]) -> Series:
    """The points of one metric."""
    return Series(
        step=tuple(int(step) for step in value.get("step", ())),
        value=tuple(number(point) for point in value.get("value", ())),
        time=tuple(float(moment) for moment in value.get("time", ())),
    )


def read_version(value: dict[str, Any]) -> ModelVersion:
    """A model version with its files."""
    files = tuple(record(ModelFile, file) for file in value.get("files") or ())
    return record(ModelVersion, value, files=files)


def read_bill(value: dict[str, Any]) -> Bill:
    """A bill with its lines."""
    return record(Bill, value, lines=tuple(record(BillLine, line) for line in value["lines"]))


def read_identity(value: dict[str, Any]) -> Identity:
    """The answer of /whoami."""
    server = cast(dict[str, Any], value.get("server") or {})
    return Identity(
        user=str(value["user"]["name"]),
        teamspaces=tuple(record(Teamspace, item) for item in value.get("teamspaces") or ()),
        server_version=str(server.get("version") or ""),
    )


def read_member(value: dict[str, Any]) -> Member:
    """A member; the user may come as a name or as an object with a name."""
    user: object = value.get("user", value.get("name", ""))
    if isinstance(user, dict):
        user = cast(dict[str, Any], user).get("name", "")
    return Member(user=str(user), role=str(value["role"]))
