"""Recipes as YAML: files of one's own, and those that come with blixt in `blixt/llm/hub`."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from blixt.llm.errors import RecipeError

HUB = Path(__file__).parent.parent / "hub"


def hub() -> dict[str, Path]:
    """The recipes that come with blixt, by name: "finetune/smollm2-lora"."""
    return {path.relative_to(HUB).with_suffix("").as_posix(): path for path in sorted(HUB.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """The file of a path or of a name in the hub.

    Raises:
        RecipeError: There is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = hub()
    if name.removesuffix(".yaml") in known:
        return known[name.removesuffix(".yaml")]
    close = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"blixt brings {', '.join(known)}"
    raise RecipeError(f"there is no config file {name!r}, and no recipe of that name; {hint}")


def read_yaml(name: str, recipe: str) -> dict[str, Any]:
    """The values of a file, without its `recipe:` line.

    Args:
        name: A path, or a name in the hub.
        recipe: Which recipe reads it.

    Raises:
        RecipeError: The file is missing, not YAML, no mapping, or of another recipe.
    """
    import yaml

    path = find_config(name)
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise RecipeError(f"{path} holds no settings: write NAME: VALUE, a line each")
    values = {str(key): value for key, value in cast("Mapping[Any, Any]", content).items()}
    meant = values.pop("recipe", recipe)
    if meant != recipe:
        raise RecipeError(f"{path} is for the recipe {meant!r}: run `blixt llm {meant} --config {name}`")
    return values


def write_yaml(values: Mapping[str, Any]) -> str:
    """Values as YAML text, in their order."""
    import yaml

    return yaml.safe_dump(dict(values), sort_keys=False, width=100)
