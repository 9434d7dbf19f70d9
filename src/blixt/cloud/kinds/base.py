"""The registry of kinds and the checks every kind shares."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from blixt.cloud.errors import Invalid

NAME_RULE = "use 1 to 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?\Z")


class Spec(BaseModel):
    """What was asked for. Unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Status(BaseModel):
    """What is. Controllers may add fields; those named here are checked."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True)
class Kind:
    """A kind of object.

    Attributes:
        name: Singular, as in an object's `kind`.
        plural: As in paths.
        spec: Type of its spec.
        status: Type of its status; its defaults are the status of a new object.
    """

    name: str
    plural: str
    spec: type[Spec]
    status: type[Status]


KINDS: dict[str, Kind] = {}
"""All kinds by singular name."""


def register(kind: Kind) -> Kind:
    """Add a kind to the registry."""
    KINDS[kind.name] = kind
    return kind


def kind_of(name: str) -> Kind:
    """Return the kind with this singular name.

    Raises:
        Invalid: When there is none.
    """
    if name not in KINDS:
        raise Invalid(f"There is no kind {name!r}.", f"Known kinds: {', '.join(sorted(KINDS))}.")
    return KINDS[name]


def validate_name(name: object, what: str = "name") -> str:
    """Return `name` when it keeps the rule for names.

    Raises:
        Invalid: With the rule in its hint.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        shown = name if isinstance(name, str) and len(name) <= 80 else f"{str(name)[:60]}..."
        raise Invalid(f"{shown!r} is not a valid {what}.", f"{NAME_RULE.capitalize()}.")
    return name


def validate_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return `labels` when there are at most 32 and each is short text.

    Raises:
        Invalid: Naming the label that is wrong.
    """
    if len(labels) > 32:
        raise Invalid(f"An object may carry 32 labels, not {len(labels)}.", "Remove some.")
    for key, value in labels.items():
        if not _LABEL_KEY.match(key):
            raise Invalid(f"Label {key[:60]!r} is no valid key.", "Use up to 63 letters, digits and . _ / -")
        if len(value) > 256 or not value.isprintable():
            raise Invalid(f"The value of label {key!r} is too long or not printable.", "Use 256 characters.")
    return dict(labels)


def validate_spec(
    kind: str, spec: Mapping[str, Any], machines: Collection[str] | None = None
) -> dict[str, Any]:
    """Check a spec and return it with all defaults filled in.

    Args:
        kind: Singular name of the kind.
        spec: What was asked for.
        machines: Known machine types; None leaves `machine` unchecked.

    Raises:
        Invalid: Naming the first field that is wrong and why.
    """
    try:
        checked = kind_of(kind).spec.model_validate(dict(spec))
    except ValidationError as error:
        raise Invalid(*explain(error, f"{kind} spec")) from error
    machine = getattr(checked, "machine", None)
    if machine is not None and machines is not None and machine not in machines:
        raise Invalid(
            f"There is no machine type {machine[:80]!r} (spec.machine).",
            f"Choose one of: {', '.join(machines)}.",
        )
    return checked.model_dump(mode="json")


def validate_status(kind: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """Check a status and return it with all defaults filled in.

    Raises:
        Invalid: Naming the first field that is wrong and why.
    """
    try:
        return kind_of(kind).status.model_validate(dict(status)).model_dump(mode="json")
    except ValidationError as error:
        raise Invalid(*explain(error, f"{kind} status")) from error


def explain(error: ValidationError, where: str) -> tuple[str, str]:
    """Turn pydantic's first complaint into a sentence and a hint."""
    first = error.errors(include_url=False, include_input=False)[0]
    return explain_detail(first["type"], first["loc"], first["msg"], where)


def explain_detail(type_: str, location: tuple[int | str, ...], message: str, where: str) -> tuple[str, str]:
    """Turn one complaint of pydantic into a sentence and a hint."""
    field = ".".join(str(part)[:60] for part in location)
    if type_ == "extra_forbidden":
        return f"{where}: there is no field {field!r}.", "Check its spelling."
    if type_ == "missing":
        return f"{where}: the field {field!r} is missing.", f"Give {field!r}."
    text = message.removeprefix("Value error, ").rstrip(".")
    return f"{where}: {field or 'it'}: {text}.", ""


def _object_name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError(f"{value[:80]!r} is not a valid name; {NAME_RULE}")
    return value


def _env(value: dict[str, str]) -> dict[str, str]:
    for key, text in value.items():
        if not _ENV_NAME.match(key):
            raise ValueError(f"{key[:60]!r} is not a valid environment variable; use letters, digits and _")
        if "\0" in text:
            raise ValueError(f"the value of {key} contains a NUL character")
    return value


def _secret_names(value: list[str]) -> list[str]:
    # A secret arrives as the variable of its own name, so names with dashes are mapped by the agent.
    return [_object_name(name) for name in value]


def _command(value: list[str] | str) -> list[str] | str:
    if not value or (isinstance(value, str) and not value.strip()):
        raise ValueError("the command is empty")
    if "\0" in (value if isinstance(value, str) else "".join(value)):
        raise ValueError("the command contains a NUL character")
    return value


def _size_limited(value: dict[str, str]) -> dict[str, str]:
    if sum(len(key) + len(text) for key, text in value.items()) > 65_536:
        raise ValueError("the environment is larger than 64 KiB")
    return value


ObjectName = Annotated[str, AfterValidator(_object_name)]
Env = Annotated[dict[str, str], AfterValidator(_env), AfterValidator(_size_limited)]
SecretNames = Annotated[list[str], Field(max_length=64), AfterValidator(_secret_names)]
Command = Annotated[list[str] | str, Field(max_length=65_536), AfterValidator(_command)]
BlobId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
