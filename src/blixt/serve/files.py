"""Serving what a Python file defines: the way of `blixt serve app.py`."""

import importlib.util
import inspect
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from blixt.serve.api import API
from blixt.serve.errors import ConfigError
from blixt.serve.server import Server


def run_file(
    path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    uds: str | None = None,
    sock: socket.socket | None = None,
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = "auto",
    workers_per_device: int = 1,
    timeout_s: float = 30.0,
    api_key: str | None = None,
    max_queue: int = 1024,
) -> None:
    """Serve a file until SIGTERM or Ctrl-C.

    The file defines a variable `server` (a `Server`, which then knows its own devices, limits and key), or
    else subclasses of `API`, which are made without arguments and served by the arguments given here.

    Raises:
        ConfigError: The file is missing, fails on import, or defines nothing to serve.
        SystemExit: As `Server.run`.
    """
    module = load(Path(path))
    server = getattr(module, "server", None)
    if not isinstance(server, Server):
        server = Server(
            [_instance(cls) for cls in api_classes(module)],
            accelerator=accelerator,
            devices=devices,
            workers_per_device=workers_per_device,
            timeout_s=timeout_s,
            api_key=api_key,
            max_queue=max_queue,
        )
    server.run(host, port, uds=uds, sock=sock)


def load(path: Path) -> ModuleType:
    """Import a file so that worker processes can import it too, by name.

    Raises:
        ConfigError: It is missing, not Python, or fails.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; give the path of a Python file.")
    path = path.resolve()
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise ConfigError(
            f"{path.name} cannot be imported; name it like a Python module, for example app.py."
        )
    if name in sys.modules or name in sys.stdlib_module_names:
        raise ConfigError(f"{path.name} hides another module called {name!r}; rename it.")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path} fails on import: {type(error).__name__}: {error}") from error
    return module


def api_classes(module: ModuleType) -> list[type[API]]:
    """The API classes a module defines itself, without those others build on.

    Raises:
        ConfigError: There is none.
    """
    own = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    apis: list[type[API]] = [c for c in own if issubclass(c, API)]
    leaves = [c for c in apis if not any(other is not c and issubclass(other, c) for other in apis)]
    if not leaves:
        raise ConfigError(
            f"{module.__file__} defines nothing to serve; write a subclass of blixt.serve.API, "
            "or `server = Server(...)`."
        )
    return leaves


def _instance(cls: Any) -> API:
    try:
        return cls()
    except TypeError as error:
        raise ConfigError(
            f"{cls.__name__}() fails: {error}; write `server = Server({cls.__name__}(...))`."
        ) from None
