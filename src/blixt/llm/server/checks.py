"""What can be known to be wrong before a worker starts, without loading torch into the front."""

from pathlib import Path
from typing import Any, cast

from blixt.llm.errors import ConfigError
from blixt.llm.server.options import ServeOptions
from blixt.llm.tokenizer_files import read_json

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def check(model: str | Path, options: ServeOptions) -> None:
    """Look at the files and options that a server is to start with.

    Raises:
        ConfigError: The model is none, or an option is impossible.
    """
    context = context_of(Path(model))
    if options.max_batch < 1:
        raise ConfigError(f"max_batch={options.max_batch}: must be at least 1")
    if options.context is not None and context is not None and not 2 <= options.context <= context:
        raise ConfigError(f"context={options.context}: this model's is {context} tokens; ask for less")
    for name, path in options.adapters.items():
        if not name or "/" in name:
            raise ConfigError(f"--adapter {name}={path}: its name must not be empty or hold '/'")
        if not (Path(path) / "adapter_config.json").is_file():
            raise ConfigError(f"--adapter {name}={path}: there is no adapter_config.json in it")
    template = options.chat_template
    if template is None:
        return
    if template.endswith(".jinja"):
        if not Path(template).is_file():
            raise ConfigError(f"chat_template={template}: there is no such file")
        return
    from blixt.llm.chat.styles import style_names

    if template not in style_names():
        known = ", ".join(style_names())
        raise ConfigError(f"chat_template={template!r}: neither a .jinja file nor a prompt style ({known})")


def context_of(model: Path) -> int | None:
    """How many tokens a model's `config.json` says it can read; None if it does not say, as with GGUF files.

    Raises:
        ConfigError: There is no model.
    """
    if model.suffix == ".gguf" and model.is_file():
        return None
    config = read_json(model / "config.json")
    if not config:
        raise ConfigError(f"{model} is no checkpoint directory: there is no config.json in it")
    nested = config.get("text_config")
    text = cast("dict[str, Any]", nested) if isinstance(nested, dict) else {}
    found = (source.get(key) for source in (config, text) for key in CONTEXT_KEYS)
    return next((value for value in found if isinstance(value, int)), None)
