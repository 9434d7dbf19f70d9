"""Prompt styles: chat templates, as data, for models whose files carry none.

Each `.jinja` file beside this one is a style, named after the models or the data set that made it known.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from blixt.llm.chat.template import ChatTemplate
from blixt.llm.errors import TemplateError

if TYPE_CHECKING:
    from blixt.llm.tokenizer import Tokenizer


@cache
def style_names() -> tuple[str, ...]:
    """All prompt styles."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".jinja") for name in names if name.endswith(".jinja")))


def style(name: str, tokenizer: "Tokenizer | None" = None) -> ChatTemplate:
    """A prompt style as a chat template.

    Args:
        name: One of `style_names()`.
        tokenizer: For the template's `ids` and `mask`.

    Raises:
        TemplateError: There is no such style.

    Example:
        >>> style("alpaca").render([{"role": "user", "content": "Sing."}]).splitlines()[-3:]
        ['Sing.', '', '### Response:']
    """
    if name not in style_names():
        raise TemplateError(f"there is no prompt style {name!r}; there are {', '.join(style_names())}")
    source = (files(__name__) / f"{name}.jinja").read_text(encoding="utf-8")
    return ChatTemplate(source, None if tokenizer is None else tokenizer.facts.specials, tokenizer)
