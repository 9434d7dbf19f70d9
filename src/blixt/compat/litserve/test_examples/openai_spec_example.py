"""LitAPIs for `OpenAISpec`."""

from collections.abc import Iterator
from typing import Any

from ..api import LitAPI
from ..specs.openai import ChatMessage, ToolCall
from ..specs.openai_types import FunctionCall

ANSWER = "10 + 6 is equal to 16."
USAGE = {"prompt_tokens": 25, "completion_tokens": 10, "total_tokens": 35}


def message(content: str, **more: Any) -> dict[str, Any]:
    """A piece of an answer."""
    return {"role": "assistant", "content": content, **more}


class TestAPI(LitAPI):
    """Always gives the same answer."""

    __test__ = False

    def predict(self, x: Any) -> Iterator[Any]:
        """In one piece."""
        yield "This is a generated output"


class TestAPIWithCustomEncode(TestAPI):
    """Answers something else than it predicts."""

    def encode_response(self, output: Any) -> Iterator[Any]:
        """As a message."""
        yield ChatMessage(role="assistant", content="This is a custom encoded output")


class TestAPIWithToolCalls(TestAPI):
    """Wants a function called."""

    def encode_response(self, output: Any) -> Iterator[Any]:
        """As a message with a call."""
        function = FunctionCall(name="function_1", arguments='{"arg_1": "arg_1_value"}')
        yield ChatMessage(role="assistant", content="", tool_calls=[ToolCall(id="call_1", function=function)])


class TestAPIWithStructuredOutput(TestAPI):
    """Answers with JSON."""

    def encode_response(self, output: Any) -> Iterator[Any]:
        """As a message whose content is JSON."""
        event = '{"name": "Science Fair", "date": "Friday", "participants": ["Alice", "Bob"]}'
        yield ChatMessage(role="assistant", content=event)


class OpenAIBatchContext(LitAPI):
    """A batch in step, with a context for each request."""

    WORDS = "Hi! It's nice to meet you. Is there something I can help you with or would you like to chat?"

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Requests as they are."""
        return inputs

    def predict(self, x: list[Any], context: list[Any]) -> Iterator[Any]:
        """A word for everyone, again and again."""
        for one in context:
            one["temperature"] = 1.0
        for word in self.WORDS.split():
            yield [word + " "] * len(x)

    def unbatch(self, output: Any) -> Any:
        """Steps as they are."""
        return output

    def encode_response(self, output: Any, context: list[Any]) -> Iterator[Any]:
        """As messages."""
        for words in output:
            yield [message(word) for word in words]
        assert all(one["temperature"] == 1.0 for one in context)


class OpenAIWithUsage(LitAPI):
    """Says how many tokens its answer took."""

    def predict(self, x: Any) -> Iterator[Any]:
        """In one piece."""
        yield message(ANSWER, **USAGE)


class OpenAIWithUsageEncodeResponse(LitAPI):
    """Says so at the end."""

    def predict(self, x: Any) -> Iterator[Any]:
        """Token by token."""
        yield from ["10", " +", " ", "6", " is", " equal", " to", " ", "16", "."]

    def encode_response(self, output: Any) -> Iterator[Any]:
        """As messages, and then the count."""
        for text in output:
            yield message(text)
        yield message("", **USAGE)


class OpenAIBatchingWithUsage(OpenAIWithUsage):
    """The same in batches."""

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Requests as they are."""
        return inputs

    def predict(self, x: list[Any]) -> Iterator[Any]:
        """One answer for everyone."""
        yield [ANSWER] * len(x)

    def unbatch(self, output: Any) -> Any:
        """Steps as they are."""
        return output

    def encode_response(self, output: Any, context: list[Any]) -> Iterator[Any]:
        """As messages, and then the count."""
        for texts in output:
            yield [message(text) for text in texts]
        yield [message("", **USAGE)] * len(context)
