"""What can be known to be wrong before a worker starts."""

from pathlib import Path

from blixt.llm.errors import ConfigError
from blixt.llm.server.options import ServeOptions
from blixt.llm.weights import read_config


def check(model: str | Path, options: ServeOptions) -> None:
    """Look at the files and options that a server is to start with.

    Raises:
        ConfigError: The model is none, or an option is impossible.
    """
    config = read_config(model)
    if options.max_batch < 1:
        raise ConfigError(f"max_batch={options.max_batch}: must be at least 1")
    if options.context is not None and not 2 <= options.context <= config.context:
        raise ConfigError(
            f"context={options.context}: this model's is {config.context} tokens; ask for 2 to that"
        )
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
