"""Settings from a dataclass, a file and a command line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml

from blixt.llm.errors import RecipeError
from blixt.llm.recipes.config import from_dict, read, settings_of, show, to_dict
from blixt.llm.recipes.config_files import hub


@dataclass(frozen=True)
class Optim:
    """How weights move.

    Attributes:
        learning_rate: Its highest value,
            after warm-up.
        betas: Of the averages.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, ...] = (0.9, 0.95)


@dataclass(frozen=True)
class Bake:
    """Settings of a recipe that only the tests have.

    Attributes:
        flour: What goes in.
    """

    recipe: ClassVar[str] = "bake"

    flour: str
    eggs: int | None = 2
    kind: Literal["bread", "cake"] = "cake"
    salt: bool = False
    devices: int | str = "auto"
    guests: tuple[str, ...] = ()
    optim: Optim = field(default_factory=Optim)
    extra: Optim | None = None
    layers: tuple[Optim, ...] = ()


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_defaults_are_beaten_by_files_and_files_by_the_command_line(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "recipe: bake\nflour: rye\neggs: 3\noptim: {learning_rate: 0.5}\n")
    second = write(tmp_path / "b.yaml", "eggs: 4\noptim: {betas: [0.1]}\n")
    config = read(Bake, ["--config", first, "--config", second, "--eggs", "5"])
    assert config == Bake("rye", eggs=5, optim=Optim(0.5, (0.1,)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--flour", "123"], Bake("123")),
        (["--flour=oat", "--optim.learning-rate", "1e-4"], Bake("oat", optim=Optim(1e-4))),
        (["--flour", "x", "--eggs", "none"], Bake("x", eggs=None)),
        (["--flour", "x", "--salt"], Bake("x", salt=True)),
        (["--flour", "x", "--salt", "false"], Bake("x", salt=False)),
        (["--flour", "x", "--kind", "bread"], Bake("x", kind="bread")),
        (["--flour", "x", "--devices", "2"], Bake("x", devices=2)),
        (["--flour", "x", "--devices", "auto"], Bake("x")),
        (["--flour", "x", "--guests", "a,b c"], Bake("x", guests=("a", "b c"))),
        (["--flour", "x", "--guests", '["a, b", c]'], Bake("x", guests=("a, b", "c"))),
        (["--flour", "x", "--optim.betas", "0.5,0.6"], Bake("x", optim=Optim(betas=(0.5, 0.6)))),
        (["--flour", "x", "--extra.learning_rate", "2"], Bake("x", extra=Optim(2.0))),
        (["--flour", "x", "--extra", "none"], Bake("x")),
        (["--flour", "x", "--layers.0.learning_rate", "2"], Bake("x", layers=(Optim(2.0),))),
        (
            ["--flour", "x", "--layers", "[{betas: [1]}, {betas: [2]}]", "--layers.1.learning-rate", "2"],
            Bake("x", layers=(Optim(betas=(1.0,)), Optim(2.0, (2.0,)))),
        ),
    ],
)
def test_every_value_can_be_written_on_the_command_line(arguments: list[str], expected: Bake) -> None:
    assert read(Bake, arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--flur", "x"], "no setting 'flur'; did you mean 'flour'"),
        (["--flour", "x", "--optim.lerning_rate", "1"], "did you mean 'optim.learning_rate'"),
        (["--flour", "x", "--optim.zzz", "1"], "there are betas, learning_rate"),
        (["--flour", "x", "--eggs", "many"], "eggs is 'many'"),
        (["--flour", "x", "--eggs", "true"], "eggs is 'true'"),
        (["--flour", "x", "--kind", "soup"], "use one of bread, cake"),
        (["--flour", "x", "--optim", "3"], "optim.NAME"),
        (["--flour", "x", "--layers.learning_rate", "3"], r"layers is a list.*write layers\.0 for its first"),
        (["--flour", "x", "--layers.1.learning_rate", "3"], r"you gave 1: write layers\.0"),
        (["--eggs", "1"], "flour is not set"),
        (["eggs"], "--name value"),
        (["--config", "no-such"], "no config file 'no-such'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(arguments: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        read(Bake, arguments)


def test_an_item_of_a_files_list_is_changed_and_another_put_behind_it(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "flour: rye\nlayers: [{learning_rate: 1}, {learning_rate: 2}]\n")
    words = ["--config", file, "--layers.0.betas", "5", "--layers.2.learning_rate", "3"]
    found = read(Bake, words).layers
    assert found == (Optim(1.0, (5.0,)), Optim(2.0), Optim(3.0))


def test_a_file_of_another_recipe_names_the_command_to_run(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "recipe: dpo\nflour: rye\n")
    with pytest.raises(RecipeError, match="blixt llm dpo --config"):
        read(Bake, ["--config", file])


def test_a_file_that_is_not_yaml_or_holds_no_settings_is_named(tmp_path: Path) -> None:
    for text, sentence in (("a: [", "is not YAML"), ("- 1\n", "holds no settings")):
        file = write(tmp_path / "broken.yaml", text)
        with pytest.raises(RecipeError, match=f"broken.yaml {sentence}"):
            read(Bake, ["--config", file])


def test_what_is_shown_is_a_file_that_makes_the_same_settings(tmp_path: Path) -> None:
    config = Bake("rye", eggs=None, guests=("a",), optim=Optim(1e-5))
    assert read(Bake, ["--config", write(tmp_path / "shown.yaml", show(config))]) == config
    assert from_dict(Bake, to_dict(config)) == config
    assert next(iter(yaml.safe_load(show(config)))) == "recipe"


def test_values_of_a_caller_lie_between_files_and_command_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "flour: rye\neggs: 1\n")
    given = {"eggs": 7, "optim.learning_rate": 3}
    assert read(Bake, ["--config", file], given) == Bake("rye", eggs=7, optim=Optim(3.0))
    assert read(Bake, ["--config", file, "--eggs", "8"], given).eggs == 8


def test_a_section_keeps_the_defaults_that_its_recipe_gives_it() -> None:
    @dataclass(frozen=True)
    class Fry(Bake):
        recipe: ClassVar[str] = "fry"
        optim: Optim = field(default_factory=lambda: Optim(7.0, (0.3,)))

    assert read(Fry, ["--flour", "x", "--optim.betas", "0.4"]).optim == Optim(7.0, (0.4,))
    assert {row[0]: row[2] for row in settings_of(Fry)}["optim.learning_rate"] == 7.0


def test_help_has_every_setting_with_its_type_default_and_text() -> None:
    rows = {row[0]: row[1:] for row in settings_of(Bake)}
    assert rows["flour"] == ("str", "required", "What goes in.")
    assert rows["optim.learning_rate"] == ("float", 1e-3, "Its highest value, after warm-up.")
    assert rows["eggs"][0] == "int|none"
    assert rows["kind"][0] == "bread|cake"
    assert "extra.betas" in rows
    assert rows["layers.0.learning_rate"][1] == 1e-3


def settings_class(kind: str) -> type[Any]:
    """The dataclass of a recipe of blixt's."""
    (found,) = (
        value
        for value in vars(import_module(f"blixt.llm.recipes.{kind}")).values()
        if getattr(value, "recipe", None) == kind and is_dataclass(value)
    )
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("name", hub())
def test_every_recipe_that_comes_with_blixt_can_be_read(name: str) -> None:
    settings = settings_class(name.partition("/")[0])
    config = read(settings, ["--config", name, "--data", "data.jsonl"])
    assert read(settings, [], to_dict(config)) == config


@pytest.mark.parametrize("name", hub())
def test_every_value_of_a_recipe_can_be_given_on_the_command_line(name: str) -> None:
    settings = settings_class(name.partition("/")[0])
    config = read(settings, ["--config", name, "--data", "data.jsonl"])
    values = dict(flat(to_dict(config)))
    words = [f"--{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in values.items()]
    assert len(words) >= len(settings_of(settings)) - 1
    assert read(settings, words) == config
    assert read(settings, [*words, "--seed", "77"]) == replace(config, seed=77)


def flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a mapping that is empty is a value."""
    for key, value in values.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, dict) and value:
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def test_blixt_brings_ten_recipes_and_more() -> None:
    assert len(hub()) >= 10
