"""A checkpoint directory as an OpenAI-compatible service on `blixt.serve`."""

from collections.abc import Iterator
from pathlib import Path

from blixt.llm.api import LLM, make_sampling, render_chat
from blixt.llm.config import ModelConfig
from blixt.llm.errors import PromptError
from blixt.serve import API, ChatRequest, CompletionRequest, HTTPError, OpenAISpec, Piece, Server


class ChatAPI(API):
    """Completions and chat of one model, streamed token by token.

    Args:
        directory: A checkpoint directory; read in each worker's `setup`.
        model_name: What clients call the model.
    """

    def __init__(self, directory: str | Path, model_name: str) -> None:
        super().__init__(spec=OpenAISpec(model=model_name))
        self.directory = str(directory)

    def setup(self, device: str) -> None:
        """Load the model onto the worker's device."""
        self.llm = LLM.load(self.directory, device)

    def predict(self, request: ChatRequest | CompletionRequest) -> Iterator[Piece]:
        """Continue the prompt; stop texts are the spec's business."""
        try:
            prompt = self._prompt(request)
            sampling = make_sampling(
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
            )
            for step in self.llm.steps(prompt, sampling):
                yield Piece(step.text, finish_reason=step.finish_reason, prompt_tokens=len(prompt))
        except PromptError as error:
            raise HTTPError(400, {"message": f"{error}.", "param": "prompt"}) from None

    def _prompt(self, request: ChatRequest | CompletionRequest) -> list[int]:
        if isinstance(request, ChatRequest):
            text = render_chat([{"role": m.role, "content": m.text} for m in request.messages])
            return self.llm.tokenizer.encode(text)
        if isinstance(request.prompt, str):
            return self.llm.tokenizer.encode(request.prompt)
        return self._checked([token for token in request.prompt if isinstance(token, int)])

    def _checked(self, ids: list[int]) -> list[int]:
        vocab = self.llm.model.config.vocab
        if unknown := [token for token in ids if not 0 <= token < vocab]:
            raise PromptError(f"token {unknown[0]} is not in the vocabulary of {vocab}")
        return ids


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    model_name: str | None = None,
    api_key: str | None = None,
    workers: int = 1,
) -> None:
    """Serve a checkpoint directory with OpenAI's models, completions and chat routes, until interrupted.

    Args:
        model: A checkpoint directory.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one and prints it.
        model_name: What clients call the model; None takes the directory's name.
        api_key: Asked of every request when given.
        workers: Processes per device, each with its own copy of the model.

    Raises:
        ConfigError: The directory is no checkpoint.
    """
    ModelConfig.load(model)  # a wrong directory is an error here, not in a worker
    api = ChatAPI(model, model_name or Path(model).resolve().name)
    Server(api, workers_per_device=workers, api_key=api_key, timeout_s=300).run(host=host, port=port)
