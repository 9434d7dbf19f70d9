"""What engines of others have in common here: the interface of our own, without its weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from blixt.llm.api import LLM
from blixt.llm.config import ModelConfig
from blixt.llm.engine.engine_config import EngineConfig
from blixt.llm.engine.engine_shared import SharedEngine
from blixt.llm.engine.metrics import Stats
from blixt.llm.engine.request import Update
from blixt.llm.errors import BackendError, EngineFull, PromptError
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Tokenizer


@dataclass
class Queue:
    """How many requests wait, and how many may.

    Attributes:
        max_waiting: Most of them.
        waiting: How many do now.
    """

    max_waiting: int = 4096
    waiting: int = 0

    def check_room(self, count: int) -> None:
        """Refuse `count` more if they do not fit.

        Raises:
            EngineFull: They do not.
        """
        if self.waiting + count > self.max_waiting:
            raise EngineFull(f"{self.waiting} requests wait already: try again later")


class ForeignEngine(Protocol):
    """The part of `Engine` that `LLM` and the server use.

    Attributes:
        model: Has the `config` of the model, and nothing else.
        config: Has `max_waiting`.
        scheduler: Has `waiting`.
        room: Most tokens of one request.
        has_work: Whether `step` has something to do or to tell.
    """

    model: "ForeignModel"
    config: Queue
    scheduler: Queue
    room: int

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do or to tell."""
        ...

    def add(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        *,
        uid: str | None = None,
        adapter: str | None = None,
        priority: int = 0,
        salt: str = "",
    ) -> str:
        """Queue a request; see `Engine.add`."""
        ...

    def step(self) -> list[Update]:
        """Compute some tokens; see `Engine.step`."""
        ...

    def cancel(self, uid: str) -> None:
        """End a request; see `Engine.cancel`."""
        ...

    def stats(self) -> Stats:
        """Counts since the beginning."""
        ...


@dataclass
class ForeignModel:
    """Stands for a model whose weights another library holds.

    Attributes:
        config: What it looks like.
        library: Who holds them.
    """

    config: ModelConfig
    library: str = field(default="another library")

    def __getattr__(self, name: str) -> Any:
        raise BackendError(f"{self.library} holds the model's weights: {name!r} needs blixt's own engine")


class ForeignLLM(LLM):
    """An `LLM` on another engine: generates, chats and streams; it cannot embed or save.

    Args:
        engine: The other engine.
        tokenizer: Ours, of the same model.
    """

    def __init__(self, engine: ForeignEngine, tokenizer: Tokenizer) -> None:
        super().__init__(cast("Any", engine.model), tokenizer, EngineConfig())
        self._shared = SharedEngine(cast("Any", engine))


def check_prompt(prompt: Sequence[int], room: int, vocab: int) -> None:
    """Refuse what cannot be continued.

    Raises:
        PromptError: The prompt is empty, too long, or holds an unknown id.
    """
    if not prompt:
        raise PromptError("the prompt is empty: give at least one token")
    if len(prompt) >= room:
        raise PromptError(
            f"the prompt has {len(prompt)} tokens; the context of {room} leaves room for {room - 1}"
        )
    if wrong := next((token for token in prompt if not 0 <= token < vocab), None):
        raise PromptError(f"prompt: token {wrong} is not in the vocabulary of {vocab}")
