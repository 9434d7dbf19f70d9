"""Chat templates: a conversation as the text, or the token ids, that a model was trained to continue."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blixt.llm.chat.messages import REASONING, Message, plain, plain_messages
from blixt.llm.errors import ConfigError, PromptError, TemplateError, TokenizerError

if TYPE_CHECKING:
    from blixt.llm.tokenizer import Tokenizer

Tools = Sequence[Mapping[str, Any]]
END_OF_TEXT = "\ue004here the text ends\ue004 "  # the space tells whether the template trims


class ChatTemplate:
    """A model's chat templates, in a sandbox.

    Args:
        templates: Jinja sources by name: "default", and perhaps "tool_use" or "rag", which are taken for
            conversations with tools or documents. One text is the default.
        specials: Special tokens by name ("bos_token", ...), which templates may write.
        tokenizer: For `ids` and `chat_mask`.

    Raises:
        TemplateError: A source is no Jinja template.

    Example:
        >>> template = ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}")
        >>> template.render([{"role": "user", "content": "Hello"}], add_generation_prompt=False)
        'user: Hello\\n'
    """

    def __init__(
        self,
        templates: str | Mapping[str, str],
        specials: Mapping[str, str] | None = None,
        tokenizer: "Tokenizer | None" = None,
    ) -> None:
        self.sources = {"default": templates} if isinstance(templates, str) else dict(templates)
        self.specials = dict(specials or {})
        self.tokenizer = tokenizer
        self._compiled = {name: _compile(source, name) for name, source in self.sources.items()}

    @classmethod
    def load(cls, path: str | Path) -> "ChatTemplate":
        """The template of a checkpoint directory or GGUF file, or a `.jinja` file.

        Raises:
            TemplateError: There is none.
        """
        path = Path(path)
        if path.suffix == ".jinja":
            return cls(path.read_text(encoding="utf-8"))
        from blixt.llm.tokenizer import Tokenizer

        template = Tokenizer.load(path).template
        if template is None:
            raise TemplateError(f"{path} has no chat template: give one, or a prompt style")
        return template

    @cached_property
    def literals(self) -> str:
        """All text that the templates themselves can write, for telling which markers they use."""
        return "\0".join(self.sources.values())

    def render(
        self,
        messages: Sequence[Message],
        tools: Tools | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """A conversation as text.

        Args:
            messages: Mappings with a "role" and a "content"; assistants' may have "tool_calls" and
                "reasoning_content".
            tools: JSON schemas of functions that the model may call.
            documents: Mappings with "title" and "text", for templates that take them.
            add_generation_prompt: End with the beginning of an assistant's message.
            continue_final_message: End within the last message, so that the model goes on with it.
            **variables: Whatever else the template takes, such as `enable_thinking`.

        Raises:
            PromptError: A message is not one.
            TemplateError: The template refuses the conversation, or does too much work.
        """
        chat = plain_messages(messages)
        if not continue_final_message:
            return self._run(chat, tools, documents, add_generation_prompt, variables)
        said = _mark_end(chat)
        return _cut_at_mark(self._run(chat, tools, documents, False, variables), said)

    def ids(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """`render` as token ids; what begins a text is the template's to write.

        Raises:
            TokenizerError: The template was made without a tokenizer.
        """
        return self.needed_tokenizer.encode(self.render(messages, **options), bos=False)

    def mask(
        self, messages: Sequence[Message], tools: Tools | None = None, **variables: Any
    ) -> tuple[list[int], list[bool]]:
        """A conversation's token ids, and which of them the assistant said; see `blixt.llm.chat.masks`."""
        from blixt.llm.chat.masks import chat_mask

        return chat_mask(self, messages, tools, **variables)

    @property
    def needed_tokenizer(self) -> "Tokenizer":
        """The tokenizer.

        Raises:
            TokenizerError: The template was made without one.
        """
        if self.tokenizer is None:
            raise TokenizerError("this template was made without a tokenizer: take the one of a checkpoint")
        return self.tokenizer

    def _run(
        self,
        chat: list[dict[str, Any]],
        tools: Tools | None,
        documents: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        variables: Mapping[str, Any],
    ) -> str:
        from jinja2 import TemplateError as JinjaError

        from blixt.llm.chat.sandbox import budgeted

        template = self._compiled[self._name(tools, documents)]
        names: dict[str, Any] = {
            **self.specials,
            **{name: plain(value) for name, value in variables.items()},
            "messages": chat,
            "tools": plain(list(tools)) if tools else None,
            "documents": plain(list(documents)) if documents else None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            with budgeted():
                return cast("str", template.render(names))
        except (JinjaError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise TemplateError(f"the chat template refuses this conversation: {error}") from None
        except (RecursionError, MemoryError):
            raise TemplateError("the chat template does more work than a template may") from None

    def _name(self, tools: Tools | None, documents: Sequence[Mapping[str, Any]] | None) -> str:
        for name, wanted in (("tool_use", tools), ("rag", documents)):
            if wanted and name in self._compiled:
                return name
        if "default" not in self._compiled:
            raise TemplateError(f"there is no default chat template, only {', '.join(self._compiled)}")
        return "default"


def _compile(source: str, name: str) -> Any:
    try:
        from jinja2 import TemplateError as JinjaError
    except ImportError:
        raise ConfigError("chat templates need jinja2: pip install 'blixt[llm]'") from None
    from blixt.llm.chat.sandbox import Sandbox, budgeted

    try:
        with budgeted():
            return Sandbox().compiled(source)
    except (JinjaError, RecursionError, SyntaxError) as error:
        raise TemplateError(f"the chat template {name!r} is no Jinja template: {error}") from None


def _mark_end(chat: list[dict[str, Any]]) -> str:
    """Put a mark at the end of the last message; returns what it said."""
    if not chat:
        raise PromptError("there is no message to go on with: the conversation is empty")
    last = chat[-1]
    key = (
        "content" if last.get("content") is not None else next((k for k in REASONING if k in last), "content")
    )
    said = last.get(key)
    if not isinstance(said, str):
        raise PromptError("the last message has no text to go on with")
    for name in (key, *(REASONING if key in REASONING else ())):
        if last.get(name) == said:
            last[name] = said + END_OF_TEXT
    return said


def _cut_at_mark(text: str, said: str) -> str:
    at = text.rfind(END_OF_TEXT.strip())
    if at < 0 or said.strip() not in text[:at]:
        raise TemplateError("the chat template does not write the last message as it is, so it cannot go on")
    return text[:at] if text.startswith(END_OF_TEXT, at) else text[:at].rstrip()
