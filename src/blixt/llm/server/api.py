"""A model behind OpenAI's API: requests join and leave the engine's batch between its steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from blixt.llm.chat.template import ChatTemplate
from blixt.llm.errors import EngineFull, LLMError
from blixt.llm.server.gauges import EnginePage
from blixt.llm.server.options import ServeOptions
from blixt.llm.server.prompt import Prepared
from blixt.llm.server.requests import ChatBody, CompletionBody, EmbeddingBody, LLMRequest
from blixt.llm.server.spec import LLMSpec, vector_piece
from blixt.llm.server.turn import Turn
from blixt.llm.tokenizer_files import read_json
from blixt.serve import API, ConfigError, HTTPError
from blixt.serve.worker.continuous import Output

DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class ChatAPI(API):
    """Chat, completions, responses and embeddings of one model and its adapters.

    Args:
        directory: A checkpoint directory or GGUF file; read in each worker's `setup`.
        model_name: What clients call the model.
        options: How it is served.
    """

    def __init__(self, directory: str | Path, model_name: str, options: ServeOptions | None = None) -> None:
        self.options = options or ServeOptions()
        adapters = tuple(self.options.adapters)
        super().__init__(
            spec=LLMSpec(model_name, self.options.max_tokens, more_models=adapters),
            max_streams=self.options.max_batch,
        )
        self.directory = str(directory)
        self.model_name = model_name
        self._page = EnginePage.create()

    def setup(self, device: str) -> None:
        """Load the model onto the worker's device; what is wrong with it is said without a traceback."""
        try:
            self.load(device)
        except LLMError as error:
            raise ConfigError(f"{self.directory}: {error}.") from None

    def load(self, device: str) -> None:
        """Load the model.

        Raises:
            LLMError: A file is missing or damaged, or the model does not fit.
        """
        from blixt.llm.api import LLM
        from blixt.llm.server.prompt import Prompter

        options = self.options
        self.llm = LLM.load(
            self.directory,
            device,
            dtype=options.dtype,
            quantize=options.quantize,
            adapters={name: str(path) for name, path in options.adapters.items()} or None,
            max_batch=options.max_batch,
            context=options.context,
            speculate=options.speculate,
            prefix_cache=options.prefix_cache,
            kv_bytes=options.kv_bytes,
        )
        self.engine = self.llm.engine
        self._page.claim()
        tokenizer = self.llm.tokenizer
        self.prompter = Prompter(tokenizer, template_of(options.chat_template, self.llm))
        self.hidden = tokenizer.special_ids | {*tokenizer.eos, *self.llm.model.config.eos}
        self.defaults = default_sampling(Path(self.directory))
        self._turns: dict[str, Turn] = {}
        self._ready: list[Output] = []

    def add_request(self, uid: str, request: LLMRequest) -> None:
        """Let a request join the batch.

        Raises:
            HTTPError: It cannot be answered, and why.
        """
        try:
            if isinstance(request, EmbeddingBody):
                self._ready.append(self._embed(uid, request))
            else:
                self._turns[uid] = self._begin(uid, request)
        except EngineFull as error:
            raise HTTPError(429, f"{error}.") from None
        except LLMError as error:
            param = "messages" if isinstance(request, ChatBody) else "prompt"
            raise HTTPError(400, {"message": f"{error}.", "param": param}) from None

    def remove_request(self, uid: str) -> None:
        """A client has left: its blocks are free at once."""
        self._turns.pop(uid, None)
        self.engine.cancel(uid)
        self._page.write(self.engine.stats())

    def has_capacity(self) -> bool:
        """Whether another request may join."""
        return len(self._turns) < self.options.max_batch

    def has_active_requests(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._ready) or self.engine.has_work

    def step(self, previous: list[Output] | None) -> list[Output]:
        """One step of the engine; what it made for each client."""
        outputs, self._ready = self._ready, []
        if not self.engine.has_work:
            return outputs
        for update in self.engine.step():
            turn = self._turns.get(update.uid)
            if turn is None:
                continue  # its client has left, or its answer was cut before the engine knew
            if update.finish_reason == "error":
                del self._turns[update.uid]
                error = HTTPError(500, f"The model failed on this request: {update.error}.")
                outputs.append(Output(update.uid, error=error, finished=True))
                continue
            piece = turn.take(update)
            if turn.done:
                del self._turns[update.uid]
                if update.finish_reason is None:
                    self.engine.cancel(update.uid)
            outputs.append(Output(update.uid, piece, finished=turn.done))
        self._page.write(self.engine.stats())
        return outputs

    def metrics_text(self) -> str:
        """Front: what the engines of all workers do, for `/metrics`."""
        return self._page.text(self.model_name)

    def _begin(self, uid: str, request: ChatBody | CompletionBody) -> Turn:
        chat = isinstance(request, ChatBody)
        prepared = self.prompter.chat(request) if chat else self.prompter.completion(request)
        self._check_length(prepared)
        turn = Turn(request, prepared, self.llm.tokenizer, self.hidden)
        adapter = request.model if request.model in self.options.adapters else None
        self.engine.add(
            prepared.ids,
            self._sampling(request, prepared),
            uid=uid,
            adapter=adapter,
            priority=request.extras.priority or 0,
            salt=request.extras.cache_salt or "",
        )
        return turn

    def _check_length(self, prepared: Prepared) -> None:
        from blixt.llm.errors import PromptError

        room = self.engine.room - 1
        if len(prepared.ids) > room:
            raise PromptError(
                f"the prompt has {len(prepared.ids)} tokens, {len(prepared.ids) - room} too many: "
                f"the context of {room + 1} leaves room for {room}"
            )

    def _sampling(self, request: ChatBody | CompletionBody, prepared: Prepared) -> Any:
        """The engine's settings; what the client leaves open is the model's own default."""
        from blixt.llm.sampling import make_sampling

        extras = request.extras
        given: dict[str, Any] = {
            "max_tokens": request.max_tokens or self.options.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": extras.top_k,
            "min_p": extras.min_p,
            "repetition_penalty": extras.repetition_penalty,
            "presence_penalty": request.presence_penalty,
            "frequency_penalty": request.frequency_penalty,
            "logit_bias": {int(token): bias for token, bias in (request.logit_bias or {}).items()} or None,
            "seed": request.seed,
            "min_tokens": extras.min_tokens,
            "ignore_eos": extras.ignore_eos,
            "stop_token_ids": extras.stop_token_ids,
            "format": prepared.format,
        }
        if isinstance(request, ChatBody):
            given["logprobs"] = (request.top_logprobs or 0) if request.logprobs else None
        else:
            given["logprobs"] = request.logprobs
            given["prompt_logprobs"] = request.logprobs if request.echo else None
        given |= {name: value for name, value in self.defaults.items() if given[name] is None}
        return make_sampling(**given)

    def _embed(self, uid: str, request: EmbeddingBody) -> Output:
        from blixt.llm.engine.runner_embed import embed
        from blixt.llm.errors import PromptError

        text: Any = request.input
        ids = self.llm.tokenizer.encode(text) if isinstance(text, str) else list(text)
        vocab, size = self.llm.model.config.vocab, self.llm.model.config.d
        if unknown := next((token for token in ids if not 0 <= token < vocab), None):
            raise PromptError(f"token {unknown} is not in the vocabulary of {vocab}")
        if request.dimensions not in (None, size):
            raise PromptError(f"dimensions={request.dimensions}: this model's vectors have {size}")
        vector = embed(self.llm.model, [ids], pooling="mean", normalize=True)[0]
        return Output(uid, vector_piece(vector, len(ids)), finished=True)


def template_of(given: str | None, llm: Any) -> ChatTemplate | None:
    """The chat template: a file, a prompt style by name, or the model's own."""
    if given is None:
        return llm.tokenizer.template
    facts = llm.tokenizer.facts
    if given.endswith(".jinja"):
        return ChatTemplate(Path(given).read_text(encoding="utf-8"), facts.specials, llm.tokenizer)
    from blixt.llm.chat.styles import style

    return style(given, llm.tokenizer)


def default_sampling(path: Path) -> dict[str, Any]:
    """What a model's `generation_config.json` says of sampling, where it samples at all."""
    config = read_json(path / "generation_config.json") if path.is_dir() else {}
    if config.get("do_sample") is False:
        return {}
    return {name: config[name] for name in DEFAULTS if isinstance(config.get(name), int | float)}


def options_with(options: ServeOptions | None, **given: Any) -> ServeOptions:
    """Options with some replaced; None replaces nothing."""
    return replace(
        options or ServeOptions(), **{key: value for key, value in given.items() if value is not None}
    )
