"""A recipe's settings: one dataclass, a YAML file, and every value under its dotted name on the command line.

    config = read(FinetuneConfig, ["--config", "finetune/smollm2-lora", "--optim.learning_rate", "1e-4"])

Later beats earlier: the dataclass' defaults, then the files in their order, then the values. A name that no
dataclass has is refused with the nearest one that is there, so that nothing misspelt is silently left out.
"""

import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from blixt.llm.errors import RecipeError
from blixt.llm.recipes.config_files import read_yaml, write_yaml

T = TypeVar("T")


class Text(str):
    """A value as it was written on a command line: what it means depends on the field."""


def read(recipe: type[T], arguments: Sequence[str] = (), given: Mapping[str, Any] | None = None) -> T:
    """Make a recipe's settings.

    Args:
        recipe: The dataclass; its attribute `recipe` is the name that a file's `recipe:` must have.
        arguments: As on a command line: `--config FILE` (a path, or a name of `blixt.llm.hub`), and
            `--name value`, `--name=value` or, for a flag, `--name`. Dots lead into sections.
        given: Values by dotted name, which beat the files and are beaten by `arguments`.

    Raises:
        RecipeError: A name is unknown, a value is of the wrong kind, or a file cannot be read.
    """
    files, values = split_arguments(arguments)
    tree: dict[str, Any] = {}
    for file in files:
        _merge(tree, read_yaml(file, cast("Any", recipe).recipe))
    for name, value in [*(given or {}).items(), *values]:
        _put(tree, name.replace("-", "_").split("."), value)
    return from_dict(recipe, tree)


def from_dict(recipe: type[T], values: Mapping[str, Any], path: str = "", default: T | None = None) -> T:
    """A dataclass from nested values, each checked against the type of its field.

    Args:
        recipe: The dataclass.
        values: By field name; a section is a mapping of its own, with defaults where it says nothing.
        path: Where the values stand in the whole, for messages.
        default: What fields have that `values` leaves out; None takes the dataclass' own defaults.
    """
    hints = get_type_hints(recipe)
    known = {field.name: field for field in fields(cast("Any", recipe)) if field.init}
    made: dict[str, Any] = {} if default is None else {name: getattr(default, name) for name in known}
    for name, value in values.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            raise RecipeError(f"there is no setting {where!r}{_nearest(name, list(known), path)}")
        before = made[name] if name in made else _default(known[name])
        made[name] = convert(value, hints[name], where, before)
    missing = [name for name, field in known.items() if name not in made and _required(field)]
    if missing:
        where = f"{path}.{missing[0]}" if path else missing[0]
        raise RecipeError(f"{where} is not set: give --{where}, or write it into the file")
    return recipe(**made)


def to_dict(config: Any) -> dict[str, Any]:
    """Settings as nested plain values, every one of them, as YAML and checkpoints keep them."""
    return _plain(asdict(config))


def show(config: Any) -> str:
    """The resolved settings as YAML, ready to be a file of one's own."""
    return write_yaml({"recipe": config.recipe, **to_dict(config)})


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, Any]]]:
    """A command line as the config files it names and its values in order."""
    files: list[str] = []
    values: list[tuple[str, Any]] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise RecipeError(f"{word!r} is not a setting: write --name value")
        name, equals, value = word[2:].partition("=")
        if not equals:
            alone = not rest or (rest[0].startswith("--") and len(rest[0]) > 2)
            value = "true" if alone else rest.pop(0)
        if name == "config":
            files.append(value)
        else:
            values.append((name, Text(value)))
    return files, values


def convert(value: Any, hint: Any, where: str, default: Any = None) -> Any:
    """A value as the type `hint` wants it; `default` fills what a section leaves out.

    Raises:
        RecipeError: It is of another kind; the sentence names the setting.
    """
    origin, options = get_origin(hint), get_args(hint)
    if hint is Any:
        return _parsed(value)
    if origin in (Union, types.UnionType):
        return _one_of(value, options, where, default)
    if origin is Literal:
        for option in options:
            if str(value).lower() == str(option).lower():
                return option
        raise RecipeError(f"{where} is {value!r}: use one of {', '.join(map(str, options))}")
    if is_dataclass(hint):
        return _section(value, cast("type[Any]", hint), where, default)
    if origin in (tuple, list):
        items = _items(value, where)
        made = [convert(item, options[0], f"{where}[{i}]") for i, item in enumerate(items)]
        return tuple(made) if origin is tuple else made
    if origin is dict:
        found = _mapping(value, where)
        return {str(key): convert(item, options[1], f"{where}.{key}") for key, item in found.items()}
    return _scalar(value, hint, where)


def settings_of(recipe: type[Any], path: str = "", default: Any = None) -> list[tuple[str, str, Any, str]]:
    """Every setting of a recipe: dotted name, type, default and what its class' docstring says of it."""
    hints = get_type_hints(recipe)
    found: list[tuple[str, str, Any, str]] = []
    texts = _attribute_texts(recipe.__doc__ or "")
    for field in fields(recipe):
        name = f"{path}.{field.name}" if path else field.name
        kinds = (hints[field.name], *get_args(hints[field.name]))
        section = next((kind for kind in kinds if is_dataclass(kind)), None)
        own = getattr(default, field.name) if default is not None else _default(field)
        if section is not None:
            several = get_origin(hints[field.name]) in (tuple, list)
            inside = (f"{name}.0", None) if several else (name, own)
            found += settings_of(cast("type[Any]", section), *inside)
            continue
        shown = "required" if _required(field) and default is None else own
        found.append((name, _type_name(hints[field.name]), shown, texts.get(field.name, "")))
    return found


def _one_of(value: Any, options: tuple[Any, ...], where: str, default: Any) -> Any:
    """The first option that takes the value; None is written none or null."""
    if type(None) in options and (value is None or str(value).lower() in ("none", "null", "")):
        return None
    kept = [option for option in options if option is not type(None)]
    errors: list[RecipeError] = []
    for option in sorted(kept, key=lambda option: _turn(option, value)):
        try:
            return convert(value, option, where, default)
        except RecipeError as error:
            errors.append(error)
    raise errors[0]


def _turn(option: Any, value: Any) -> int:
    """When an option is tried: text may be a number first, a list if it looks like one, and else is text."""
    if get_origin(option) in (tuple, list):
        return 0 if not isinstance(value, str) or "," in value or value.startswith("[") else 3
    return 1 if option is not str else 2


def _section(value: Any, hint: type[Any], where: str, default: Any) -> Any:
    if isinstance(value, hint):
        return value
    return from_dict(hint, _mapping(value, where), where, default if isinstance(default, hint) else None)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    found = _parsed(value)
    if not isinstance(found, Mapping):
        raise RecipeError(f"{where} is {value!r}: it is a section, give {where}.NAME its values")
    return dict(cast("Mapping[str, Any]", found))


def _items(value: Any, where: str) -> list[Any]:
    if isinstance(value, Text):
        pieces = [Text(piece.strip()) for piece in value.split(",") if piece.strip()]
        value = _parsed(value) if value.lstrip().startswith("[") else pieces
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        numbered = cast("dict[str, Any]", value)
        if numbered and set(numbered) != set(map(str, range(len(numbered)))):
            raise RecipeError(
                f"{where} is a list, of which you gave {', '.join(numbered)}: write {where}.0 for its first "
                f"item, {where}.1 for the second and so on, with none left out"
            )
        return [numbered[str(number)] for number in range(len(numbered))]
    if not isinstance(value, (list, tuple)):
        raise RecipeError(f"{where} is {value!r}: give a list")
    return list(cast("Sequence[Any]", value))


def _scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is str and isinstance(value, (str, Path)):
        return str(value)
    parsed = _parsed(value)
    if hint is float and isinstance(parsed, str):  # YAML takes 1e-4, without a point, for a text
        parsed = _number(parsed)
    if hint is float and isinstance(parsed, int) and not isinstance(parsed, bool):
        return float(parsed)
    if isinstance(parsed, hint) and not (hint is int and isinstance(parsed, bool)):
        return parsed
    raise RecipeError(f"{where} is {str(value)!r}: give a value of type {_type_name(hint)}")


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _parsed(value: Any) -> Any:
    if not isinstance(value, Text):
        return value
    import yaml

    try:
        return yaml.safe_load(str(value))
    except yaml.YAMLError:
        return str(value)


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        inner = tree.get(key)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            _merge(cast("dict[str, Any]", inner), cast("Mapping[str, Any]", value))
        else:
            tree[key] = dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        inner = _parsed(tree.get(key))
        if isinstance(inner, (list, tuple)):  # by number until `_items` makes it a list again
            inner = {str(number): item for number, item in enumerate(cast("Sequence[Any]", inner))}
        tree[key] = dict(cast("dict[str, Any]", inner)) if isinstance(inner, dict) else {}
        tree = cast("dict[str, Any]", tree[key])
    tree[path[-1]] = value


def _nearest(name: str, names: Sequence[str], path: str) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.4)
    if close:
        return f"; did you mean {f'{path}.{close[0]}' if path else close[0]!r}?"
    return f"; there are {', '.join(sorted(names))}"


def _required(field: Any) -> bool:
    from dataclasses import MISSING

    return field.init and field.default is MISSING and field.default_factory is MISSING


def _default(field: Any) -> Any:
    from dataclasses import MISSING

    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return "|".join(_type_name(option) for option in get_args(hint))
    return "none" if hint is type(None) else str(getattr(hint, "__name__", hint)).replace("typing.", "")


def _attribute_texts(docstring: str) -> dict[str, str]:
    """What a Google docstring's "Attributes:" says, by name, each on one line."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:")[2].splitlines():
        head, colon, text = line.strip().partition(":")
        if colon and head.isidentifier() and len(line) - len(line.lstrip()) <= 8:
            name = head
            found[name] = text.strip()
        elif name and line.strip():
            found[name] += f" {line.strip()}"
        elif name and not line.strip():
            break
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    return value
