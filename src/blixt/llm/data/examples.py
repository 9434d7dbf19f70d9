"""What a model learns from: the forms an example can have, whatever file it came from."""

from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]
"""A chat message as OpenAI has it: `role`, `content`, for some `tool_calls`, `tool_call_id`, `name`."""

Kind = Literal["text", "chat", "instruction", "completion", "preference", "judged", "task"]


@dataclass(frozen=True)
class Text:
    """A document to continue; every token is learned."""

    text: str
    origin: str = ""


@dataclass(frozen=True)
class Chat:
    """A conversation; what the assistant says is learned.

    Attributes:
        messages: In order.
        tools: Descriptions of the functions the assistant may call, as OpenAI has them.
        learned_from: Index of the first message whose words are learned, for a prompt with earlier answers.
        origin: Where it came from.
    """

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    learned_from: int = 0
    origin: str = ""


@dataclass(frozen=True)
class Completion:
    """Plain text before and after: only `completion` is learned, and no chat template is used."""

    prompt: str
    completion: str
    origin: str = ""


Answered = Chat | Completion


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, the first better than the second."""

    chosen: Answered
    rejected: Answered
    origin: str = ""


@dataclass(frozen=True)
class Judged:
    """One answer and whether it was wanted (KTO's data)."""

    answer: Answered
    wanted: bool
    origin: str = ""


@dataclass(frozen=True)
class Task:
    """A prompt to answer and what a reward needs to judge the answer.

    Attributes:
        messages: The prompt as a conversation; empty when it is plain text.
        prompt: The prompt as plain text; "" when it is a conversation.
        tools: Functions the prompt offers.
        fields: All other fields of the row, such as `answer`.
        origin: Where it came from.
    """

    messages: tuple[Message, ...] = ()
    prompt: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    origin: str = ""


Example = Text | Chat | Completion | Preference | Judged | Task
