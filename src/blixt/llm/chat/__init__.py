"""Conversations: rendered as text for a model, and its answers taken apart.

`ChatTemplate` renders messages by a model's own template in a sandbox, `chat_mask` tells which tokens the
assistant said, `AnswerParser` finds reasoning and tool calls in what the model writes.
"""

from blixt.llm.chat.answers import AnswerKind, AnswerParser, Part
from blixt.llm.chat.calls import ToolCall
from blixt.llm.chat.masks import chat_mask
from blixt.llm.chat.template import ChatTemplate

__all__ = ["AnswerKind", "AnswerParser", "ChatTemplate", "Part", "ToolCall", "chat_mask"]
