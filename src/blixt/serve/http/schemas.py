"""JSON schemas of many routes gathered as OpenAPI's components."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

Json = dict[str, Any]
PREFIX = "#/components/schemas/"


class Components:
    """Definitions by name; two different ones of the same name get a number."""

    def __init__(self) -> None:
        self.schemas: dict[str, Json] = {}

    def add(self, schema: Mapping[str, Any] | None, name: str) -> Json:
        """A schema whose `$defs` move here; `{}` (anything) if there is none."""
        if not schema:
            return {}
        definitions: Mapping[str, Any] = schema.get("$defs", {})
        renamed = {f"#/$defs/{key}": PREFIX + self._name(key, inner) for key, inner in definitions.items()}
        for key, value in definitions.items():
            self.schemas[renamed[f"#/$defs/{key}"].removeprefix(PREFIX)] = _rewritten(value, renamed)
        body = _rewritten({key: value for key, value in schema.items() if key != "$defs"}, renamed)
        if name in ("Error", "OpenAIError"):
            self.schemas[name] = body
            return {"$ref": PREFIX + name}
        return body

    def of(self, kind: Any) -> Json:
        """The schema of a type (msgspec Struct, pydantic model, dataclass, builtin), or a schema as it is."""
        if kind is None:
            return {}
        if isinstance(kind, Mapping):
            return self.add(cast(Mapping[str, Any], kind), "")
        return self.add(schema_of(kind), "")

    def _name(self, name: str, value: Any) -> str:
        held, number = self.schemas.get(name), 1
        wanted = name
        while held is not None and held != value:
            number += 1
            wanted = f"{name}{number}"
            held = self.schemas.get(wanted)
        return wanted


def schema_of(kind: Any) -> Json:
    """The JSON schema of a type, with `$defs`."""
    model_schema = getattr(kind, "model_json_schema", None)
    if model_schema is not None:
        return model_schema()
    return msgspec.json.schema(kind)


def _rewritten(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value)
        return {
            key: renamed.get(inner, inner) if key == "$ref" else _rewritten(inner, renamed)
            for key, inner in items.items()
        }
    if isinstance(value, list):
        return [_rewritten(inner, renamed) for inner in cast(list[Any], value)]
    return value
