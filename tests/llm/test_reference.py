"""The reference page has every public name, and names nothing that is not there."""

from importlib import import_module
from pathlib import Path

import blixt.llm

PAGE = Path(__file__).parents[2] / "docs" / "llm" / "reference.md"
ENTRIES = [line.removeprefix("::: ") for line in PAGE.read_text().splitlines() if line.startswith(":::")]


def test_every_public_name_has_an_entry() -> None:
    objects = [getattr(blixt.llm, name) for name in blixt.llm.__all__ if name not in ("chat", "PRESETS")]
    found = {id(thing) for entry in ENTRIES for thing in things(entry)}
    assert [thing.__name__ for thing in objects if id(thing) not in found] == []


def things(entry: str) -> list[object]:
    """What an entry shows: an object, or all of a module."""
    module, _, name = entry.rpartition(".")
    thing = getattr(import_module(module), name, None) or import_module(entry)
    return [thing, *vars(thing).values()] if hasattr(thing, "__file__") else [thing]


def test_no_entry_is_there_twice() -> None:
    assert len(set(ENTRIES)) == len(ENTRIES)
