"""A JSON schema before it is compiled: refused where it could not be kept, bounded where it is endless."""

import json
from collections.abc import Iterator
from typing import Any, cast

from blixt.llm.errors import FormatError

Schema = dict[str, Any]

_LARGEST = 2**63 - 1
# xgrammar reads past these without a word, so what it lets through might not fit the schema.
_UNSUPPORTED = {
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
}
_ANNOTATIONS = {
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "readOnly",
    "title",
    "type",
    "writeOnly",
}
_COMBINERS = ("$ref", "anyOf", "oneOf", "allOf")


def prepare_schema(schema: Any) -> Any:
    """The schema to compile: integers without limits get those of 64 bits, so that they end.

    Raises:
        FormatError: A keyword could not be kept; the sentence names it and where it stands.
    """
    for place, part in subschemas(schema):
        _check(place, part)
    return _bounded(schema)


def failing_place(schema: Any) -> str:
    """Where in a schema that does not compile the innermost part stands that does not compile by itself.

    Returns:
        A JSON pointer such as `#/properties/age`; `#` is the whole.
    """
    from xgrammar import Grammar

    whole = _mapping(schema)
    definitions: Schema = {key: whole[key] for key in ("$defs", "definitions") if key in whole}
    found = "#"
    for place, part in subschemas(schema):
        if not place.startswith(found):
            continue
        try:
            Grammar.from_json_schema(json.dumps({**definitions, **part}))
        except RuntimeError:
            found = place
    return found


def subschemas(schema: Any, place: str = "#") -> Iterator[tuple[str, Schema]]:
    """Every object in a schema that is itself a schema, with its JSON pointer, outermost first."""
    if not isinstance(schema, dict):
        return
    schema = cast("Schema", schema)
    yield place, schema
    for key in ("properties", "patternProperties", "$defs", "definitions"):
        for name, part in _mapping(schema.get(key)).items():
            yield from subschemas(part, f"{place}/{key}/{name}")
    for key in ("items", "additionalProperties", "additionalItems", "contains", "propertyNames"):
        yield from subschemas(schema.get(key), f"{place}/{key}")
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        parts = schema.get(key)
        for index, part in enumerate(cast("list[Any]", parts) if isinstance(parts, list) else []):
            yield from subschemas(part, f"{place}/{key}/{index}")


def _mapping(value: Any) -> Schema:
    return cast("Schema", value) if isinstance(value, dict) else {}


def _check(place: str, schema: Schema) -> None:
    for word in _UNSUPPORTED & schema.keys():
        if schema[word] is not False:
            raise FormatError(f"the JSON schema uses {word!r} at {place}, which cannot be kept while writing")
    for word in _COMBINERS:
        if word in schema and (beside := schema.keys() - _ANNOTATIONS - {word}):
            raise FormatError(
                f"the JSON schema has {sorted(beside)[0]!r} beside {word!r} at {place}: one would be lost"
            )
    if len(schema.get("allOf", [])) > 1:
        raise FormatError(f"the JSON schema joins several parts by 'allOf' at {place}: write them as one")
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise FormatError(f"the JSON schema refers to {reference!r} at {place}: only '#/...' is looked up")
    if "pattern" in schema and {"minLength", "maxLength"} & schema.keys():
        raise FormatError(f"the JSON schema has a length beside 'pattern' at {place}: say it in the pattern")
    unknown = set(schema.get("required", [])) - _mapping(schema.get("properties")).keys()
    if unknown and not schema.keys() & {"patternProperties", "additionalProperties", *_COMBINERS}:
        raise FormatError(f"the JSON schema requires {sorted(unknown)[0]!r} at {place}, which is no property")


def _bounded(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bounded(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    schema = cast("Schema", schema)
    bounded = {
        key: part if key in {"enum", "const", "default", "examples", "required"} else _bounded(part)
        for key, part in schema.items()
    }
    if schema.get("type") == "integer" and not schema.keys() & {"enum", "const", "multipleOf"}:
        low = bounded.get("minimum", bounded.get("exclusiveMinimum", -_LARGEST - 1))
        high = bounded.get("maximum", bounded.get("exclusiveMaximum", _LARGEST))
        if "minimum" not in bounded and "exclusiveMinimum" not in bounded:
            bounded["minimum"] = min(-_LARGEST - 1, high)
        if "maximum" not in bounded and "exclusiveMaximum" not in bounded:
            bounded["maximum"] = max(_LARGEST, low)
    return bounded
