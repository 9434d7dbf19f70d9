"""Who answers in the terminal: a model in this process, or a server. Both take OpenAI's chat bodies."""

import json
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from blixt.llm.errors import LLMError, PromptError

if TYPE_CHECKING:
    from blixt.llm.server.api import ChatAPI

Messages = Sequence[Mapping[str, Any]]
ANSWER_S = 600.0
UNTOLD = ("stream", "messages", "model", "n")


@dataclass(frozen=True)
class Said:
    """The next of an answer: content, or reasoning before it."""

    kind: Literal["content", "reasoning"]
    text: str


class Partner(Protocol):
    """Who answers."""

    name: str

    def fits(self, messages: Messages) -> int | None:
        """The tokens that a conversation may have if it has more; None if it fits or nobody here can tell."""
        ...

    def answer(self, messages: Messages, settings: Mapping[str, Any]) -> Generator[Said]:
        """An answer as it comes; closing the generator stops it.

        Raises:
            PromptError: It cannot be given, in a sentence.
        """
        ...


def local(model: str | Path, device: str, options: Mapping[str, Any]) -> "LocalModel":
    """A model of this machine.

    Raises:
        LLMError: There is none, or an option is impossible.
    """
    from blixt.llm.server import ChatAPI, name_of
    from blixt.llm.server.api import options_with
    from blixt.llm.server.checks import check

    chosen = options_with(None, **{"max_batch": 1, **options})
    check(model, chosen)
    api = ChatAPI(model, name_of(model), chosen)
    api.load(device)
    return LocalModel(api)


class LocalModel:
    """A model in this process: the server's worker without the server.

    Args:
        api: Set up.
    """

    def __init__(self, api: "ChatAPI") -> None:
        self.name = api.model_name
        self._api = api
        self._count = 0

    def fits(self, messages: Messages) -> int | None:
        """Half of the context is for the conversation, half for the answer."""
        from blixt.llm.server.requests import read_chat

        half = self._api.engine.room // 2
        request = read_chat(_body(self.name, messages, {}))
        return half if len(self._api.prompter.chat(request).ids) > half else None

    def answer(self, messages: Messages, settings: Mapping[str, Any]) -> Generator[Said]:
        """See `Partner`."""
        from blixt.llm.server.requests import read_chat
        from blixt.serve import HTTPError

        self._count += 1
        uid = str(self._count)
        try:
            self._api.add_request(uid, read_chat(_body(self.name, messages, settings)))
            yield from self._pieces()
        except HTTPError as error:
            raise PromptError(_sentence(error.detail)) from None
        finally:
            self._api.remove_request(uid)

    def _pieces(self) -> Generator[Said]:
        while self._api.has_active_requests():
            for output in self._api.step(None):
                if output.error is not None:
                    raise output.error
                piece = output.output
                if piece is not None and piece.reasoning:
                    yield Said("reasoning", piece.reasoning)
                if piece is not None and piece.text:
                    yield Said("content", piece.text)


def remote(url: str, model: str | None, api_key: str | None) -> "RemoteModel":
    """A server with OpenAI's API.

    Args:
        url: With or without `/v1`.
        model: Its name there; None takes the first.
        api_key: None takes `$OPENAI_API_KEY`.

    Raises:
        LLMError: Nobody answers there.
    """
    import httpx

    base = url.rstrip("/").removesuffix("/v1") + "/v1"
    key = api_key or os.environ.get("OPENAI_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    client = httpx.Client(headers=headers, timeout=httpx.Timeout(10.0, read=ANSWER_S))
    try:
        answer = client.get(f"{base}/models")
        if answer.is_error:
            raise LLMError(f"{base}/models answers {answer.status_code}: {_told(answer.text)}")
        names = [entry["id"] for entry in answer.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise LLMError(f"{base} is not a server with OpenAI's API: {error}") from None
    if model is not None and model not in names:
        raise LLMError(f"{base} has no model {model!r}; it has {', '.join(names)}")
    if not names:
        raise LLMError(f"{base} serves no model")
    return RemoteModel(client, base, model or names[0])


class RemoteModel:
    """A model behind OpenAI's API.

    Args:
        client: An `httpx.Client`.
        base: The address, up to `/v1`.
        name: The model's.
    """

    def __init__(self, client: Any, base: str, name: str) -> None:
        self.name = name
        self._client = client
        self._base = base

    def fits(self, messages: Messages) -> int | None:
        """Only the server can tell; it says so in its answer."""
        return None

    def answer(self, messages: Messages, settings: Mapping[str, Any]) -> Generator[Said]:
        """See `Partner`."""
        import httpx

        body = _body(self.name, messages, {**settings, "stream": True})
        headers = {"content-type": "application/json"}
        try:
            where = f"{self._base}/chat/completions"
            with self._client.stream("POST", where, content=body, headers=headers) as response:
                if response.is_error:
                    raise PromptError(_told(response.read().decode(errors="replace")))
                for line in response.iter_lines():
                    yield from _said(line)
        except httpx.HTTPError as error:
            raise PromptError(f"the server is gone: {type(error).__name__}: {error}") from None


def _body(model: str, messages: Messages, settings: Mapping[str, Any]) -> bytes:
    return json.dumps({"model": model, "messages": list(messages), **settings}).encode()


def _said(line: str) -> Generator[Said]:
    """What one line of a stream of events says."""
    if not line.startswith("data:") or line.endswith("[DONE]"):
        return
    event = json.loads(line.removeprefix("data:"))
    if "error" in event:
        raise PromptError(event["error"]["message"].rstrip("."))
    for choice in event.get("choices", ()):
        delta: dict[str, Any] = choice.get("delta") or {}
        if delta.get("reasoning_content"):
            yield Said("reasoning", delta["reasoning_content"])
        if delta.get("content"):
            yield Said("content", delta["content"])


def _told(text: str) -> str:
    """The sentence in an error's body."""
    try:
        return str(json.loads(text)["error"]["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _sentence(detail: object) -> str:
    if isinstance(detail, dict):
        return str(detail.get("message", detail)).rstrip(".")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - JSON
    return str(detail).rstrip(".")
