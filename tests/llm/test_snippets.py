"""What the pages on llm show is there: code that compiles, names that exist, settings that recipes have."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from blixt.llm.recipes.config import settings_of
from blixt.llm.recipes.config_files import hub
from blixt.llm.recipes.distill import DistillConfig
from blixt.llm.recipes.dpo import DPOConfig
from blixt.llm.recipes.finetune import FinetuneConfig
from blixt.llm.recipes.grpo import GRPOConfig

DOCS = Path(__file__).parents[2] / "docs" / "llm"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
RECIPES = {"finetune": FinetuneConfig, "dpo": DPOConfig, "grpo": GRPOConfig, "distill": DistillConfig}
OF_ALL = {"config", "json", "print_config", "help"}


def blocks(page: str, kinds: str) -> list[str]:
    """Fenced blocks of a page; without a kind when `kinds` allows it."""
    return re.findall(rf"^```(?:{kinds})[^\n]*\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_snippets_compile_and_import_what_exists(page: str) -> None:
    for source in blocks(page, "python"):
        if "--8<--" in source:
            continue  # a file of `examples`, which has its own test
        entry = re.match(r"""("\w+"): """, source)  # a line of a table
        for node in ast.walk(ast.parse(f"{{{source}}}" if entry else source)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("blixt"):
                module = import_module(str(node.module))
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)], source


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_recipes_give_settings_that_exist(page: str) -> None:
    for source in blocks(page, "console|sh|bash|"):
        lines = source.replace("\\\n", " ").splitlines()
        for line in (line.removeprefix("$ ") for line in lines if "blixt llm " in line):
            words = shlex.split(line[line.index("blixt llm ") :], comments=True)
            if words[2] not in RECIPES:
                continue
            settings = settings_of(RECIPES[words[2]])
            known = {name for name, *_ in settings} | OF_ALL
            free = tuple(f"{name}." for name, kind, *_ in settings if kind.startswith("dict"))
            given = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
            assert not [name for name in given if name not in known and not name.startswith(free)], line
            named = [words[at + 1] for at, word in enumerate(words) if word == "--config"]
            assert all(name in hub() or name.endswith(".yaml") for name in named), line
