"""The JSON schema of a tool's arguments, from the parameters of a function, in LitServe's shape."""

import inspect
from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin

KINDS: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    list: "array",
    dict: "object",
}
LIMITS = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
    "max_length": "maxLength",
}
Schema = dict[str, Any]


def extract_input_schema(func: Callable[..., Any]) -> Schema:
    """The schema of a call's arguments.

    Args:
        func: A function, whose parameters are the arguments, or a pydantic model, which is the only argument.
            A parameter named `context` is the server's business and left out.

    Example:
        >>> def power(base: float, exponent: int = 2) -> float: ...
        >>> schema = extract_input_schema(power)
        >>> schema["properties"]["base"], schema["required"]
        ({'title': 'Base', 'type': 'number'}, ['base'])
    """
    properties: Schema = {}
    required: list[str] = []
    definitions: Schema = {}
    if _is_model(func):
        name = func.__name__.lower()
        properties[name] = _reference(func, definitions)
        required.append(name)
    else:
        for parameter in _arguments(func):
            if _is_model(parameter.annotation):
                properties[parameter.name] = _reference(parameter.annotation, definitions)
                needed = parameter.default is parameter.empty
            else:
                properties[parameter.name], needed = _property(parameter)
            if needed:
                required.append(parameter.name)
    schema: Schema = {
        "properties": properties,
        "required": required,
        "title": f"{func.__name__}Arguments",
        "type": "object",
    }
    return {**schema, "$defs": definitions} if definitions else schema


def _arguments(func: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(func).parameters.values()
    passing = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one for one in parameters if one.kind not in passing and one.name != "context"]


def _is_model(kind: Any) -> bool:
    from pydantic import BaseModel

    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _reference(model: Any, definitions: Schema) -> Schema:
    schema = model.model_json_schema()
    definitions.update(schema.pop("$defs", {}))
    definitions[model.__name__] = schema
    return {"$ref": f"#/$defs/{model.__name__}"}


def _property(parameter: inspect.Parameter) -> tuple[Schema, bool]:
    """One argument's schema, and whether it must be given."""
    from pydantic.fields import FieldInfo

    kind = kind_of(parameter.annotation)
    schema: Schema = {
        "title": title_of(parameter.name),
        **(kind if isinstance(kind, dict) else {"type": kind}),
    }
    field = parameter.default
    if not isinstance(field, FieldInfo):
        return schema, field is parameter.empty
    if field.description:
        schema["description"] = field.description
    for limit in field.metadata:
        for name, word in LIMITS.items():
            if (value := getattr(limit, name, None)) is not None:
                schema[word] = value
    if field.is_required():
        return schema, True
    return {**schema, "default": field.default}, False


def kind_of(annotation: Any) -> str | Schema:
    """What JSON calls a type; text if it has no word for it. A type or nothing is `{"type", "nullable"}`."""
    if get_origin(annotation) in (Union, UnionType):
        inner = [one for one in get_args(annotation) if one is not type(None)]
        if len(inner) == 1 and len(get_args(annotation)) == 2:
            return {"type": kind_of(inner[0]), "nullable": True}
    return KINDS.get(get_origin(annotation) or annotation, "string")


def title_of(name: str) -> str:
    """A parameter's name for people."""
    return " ".join(word.capitalize() for word in name.split("_"))
