"""Conversations: rendered as text for a model, and its answers taken apart.

`ChatTemplate` renders messages by a model's own template in a sandbox, `chat_mask` tells which tokens the
assistant said, `AnswerParser` finds reasoning and tool calls in what the model writes.
"""

import sys
from types import ModuleType
from typing import Any

from blixt.llm.chat.answers import AnswerKind, AnswerParser, Part
from blixt.llm.chat.calls import ToolCall
from blixt.llm.chat.masks import chat_mask
from blixt.llm.chat.template import ChatTemplate

__all__ = ["AnswerKind", "AnswerParser", "ChatTemplate", "Part", "ToolCall", "chat_mask"]


class _Room(ModuleType):
    """This package, which can be called as the terminal's function of the same name.

    Python binds a package to its parent's attribute when it is imported, whatever was there. So
    `blixt.llm.chat` is always the package, and calling it talks with a model.
    """

    def __call__(self, *args: Any, **options: Any) -> None:
        from blixt.llm.terminal import chat

        chat(*args, **options)


sys.modules[__name__].__class__ = _Room
