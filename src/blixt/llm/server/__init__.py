"""`blixt llm serve`: a model as a service with OpenAI's API, on `blixt.serve` and the engine.

`serve` runs it, `ChatAPI` is the part that a `blixt.serve.Server` of your own can take (`EmbeddingAPI` for a
sentence encoder). `spec` and `requests` work in the front, `prompt`, `turn` and `api` in the workers.
"""

from pathlib import Path
from typing import Any

from blixt.llm.server.api import ChatAPI, options_with
from blixt.llm.server.embedding import EmbeddingAPI
from blixt.llm.server.options import ServeOptions

__all__ = ["ChatAPI", "EmbeddingAPI", "ServeOptions", "serve"]
ENCODERS = ("bert",)


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    model_name: str | None = None,
    api_key: str | None = None,
    workers: int = 1,
    options: ServeOptions | None = None,
    **more: Any,
) -> None:
    """Serve a model with OpenAI's routes, until interrupted.

    Args:
        model: A checkpoint directory or GGUF file; that of a sentence encoder serves embeddings alone.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one and prints it.
        model_name: What clients call the model; None takes the directory's name.
        api_key: Asked of every request when given.
        workers: Processes per device, each with its own copy of the model.
        options: How it is served.
        **more: Fields of `ServeOptions` in place of `options`'s own.

    Raises:
        LLMError: There is no model, or an option is impossible.
    """
    from blixt.llm.server.checks import check
    from blixt.serve import Server

    chosen = options_with(options, **more)
    check(model, chosen)  # a wrong directory is an error here, not in a worker
    name = model_name or name_of(model)
    api = EmbeddingAPI(model, name) if is_encoder(model) else ChatAPI(model, name, chosen)
    Server(api, workers_per_device=workers, api_key=api_key, timeout_s=300).run(host=host, port=port)


def name_of(model: str | Path) -> str:
    """What a model is called when nobody says: its directory's or file's name."""
    path = Path(model).resolve()
    return path.stem if path.suffix == ".gguf" else path.name


def is_encoder(model: str | Path) -> bool:
    """Whether a directory holds a sentence encoder, by its config's `model_type`."""
    from blixt.llm.tokenizer_files import read_json

    return read_json(Path(model) / "config.json").get("model_type") in ENCODERS
