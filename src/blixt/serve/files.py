"""Serving what a Python file defines: the way of `blixt serve app.py`."""

import importlib.util
import inspect
import socket
import sys
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
    **options: Any,
) -> None:
    """Serve a file until SIGTERM or Ctrl-C.

    The file defines a variable `server` (a `Server`, which then knows its own devices, limits and key), or
    else subclasses of `API`, which are made without arguments and served by the options given here.

    Args:
        path: The file.
        host: As `Server.run`.
        port: As `Server.run`.
        uds: As `Server.run`.
        sock: As `Server.run`.
        **options: Arguments of `Server`.

    Raises:
        ConfigError: The file is missing, fails on import, or defines nothing to serve.
        SystemExit: As `Server.run`.
    """
    server_of(path, **options).run(host, port, uds=uds, sock=sock)


def server_of(path: str | Path, **options: Any) -> Server:
    """The server that a file defines, or one for the APIs that it defines, made with these arguments.

    Raises:
        ConfigError: As `run_file`.
    """
    module = load(Path(path))
    server = getattr(module, "server", None)
    if isinstance(server, Server):
        return server
    return Server([_instance(cls) for cls in api_classes(module)], **options)


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
