"""A module that says how it is served, and the callback that tries it before training begins."""

import copy
import logging
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from blixt.fabric import ConfigError, FabricError, MissingPackageError, WrongTypeError, rank_zero_only
from blixt.trainer import Callback, Module, Trainer

_log = logging.getLogger(__name__)
_SHARDED = ("fsdp", "deepspeed", "parallel", "pipeline")


class ServableModule(ABC, nn.Module):
    """What a module has to tell so that it can be served; derive from it beside `LightningModule`.

    For production, `blixt.serve.API` does the same with batching, workers and streams.
    """

    @abstractmethod
    def configure_payload(self) -> dict[str, Any]:
        """A request to try; its key "body" holds the arguments of `serve_step`."""

    @abstractmethod
    def configure_serialization(
        self,
    ) -> tuple[dict[str, Callable[[Any], Any]], dict[str, Callable[[Any], Any]]]:
        """Functions that read each argument of `serve_step`, and that write each key of its result."""

    @abstractmethod
    def serve_step(self, *args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
        """The prediction."""

    @abstractmethod
    def configure_response(self) -> dict[str, Any]:
        """What the request of `configure_payload` should be answered with."""


class ServableModuleValidator(Callback):
    """Serves a copy of the module once, before training, and compares its answer with the expected one.

    Args:
        optimization: None; no other form is served.
        server: "fastapi".
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        timeout: Seconds to wait for the server to start, and for its answer.
        exit_on_failure: Raise when the answer is an error; otherwise `successful` tells.

    Attributes:
        resp: The server's answer, an `httpx.Response`; None before.
    """

    def __init__(
        self,
        optimization: Literal["trace", "script", "onnx", "tensorrt"] | None = None,
        server: str = "fastapi",
        host: str = "127.0.0.1",
        port: int = 8080,
        timeout: int = 20,
        exit_on_failure: bool = True,
    ) -> None:
        owner = type(self).__name__
        if optimization is not None:
            reason = "only the module itself is served"
            raise ConfigError(f"{owner}(optimization)", optimization, reason, "Leave it out")
        if server != "fastapi":
            raise ConfigError(f"{owner}(server)", server, "only FastAPI is used", "Use 'fastapi'")
        self.optimization = optimization
        self.server = server
        self.host = host
        self.port = port
        self.timeout = timeout
        self.exit_on_failure = exit_on_failure
        self.resp: Any = None

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Serve a copy of the module and ask it.

        Raises:
            WrongTypeError: When the module is no `ServableModule`.
            ConfigError: With a strategy whose processes each hold a part of the module.
            FabricError: When the payload has no body, the server does not start, or the answer is wrong.
        """
        if trainer.strategy.name in _SHARDED:
            reason = "each process holds a part of the module"
            raise ConfigError("Trainer(strategy)", trainer.strategy.name, reason, "Use one process or 'ddp'")
        if not isinstance(module, ServableModule):
            reason = "it does not say how it is served"
            raise WrongTypeError("Trainer.fit(model)", module, reason, "Derive from ServableModule, too")
        payload = module.configure_payload()
        if "body" not in payload:
            raise FabricError(f"configure_payload of {type(module).__name__} gives no 'body'. Add one.")
        self._ask(module, payload)
        expected = module.configure_response()
        if self.successful and self.resp.json() != expected:
            message = f"serve_step answered {self.resp.json()}, and configure_response expects {expected}."
            raise FabricError(f"{message} Mend one of them.")
        if self.exit_on_failure and not self.successful:
            reason = f"the answer was {self.resp.status_code}: {self.resp.text.strip()[:200]}"
            raise FabricError(f"The module cannot be served, {reason}. See the traceback above.")
        _log.info("The module can be served; it answered %s.", self.resp.text)

    def _ask(self, module: ServableModule, payload: Mapping[str, Any]) -> None:
        import httpx

        with _served(_application(copy.deepcopy(module).eval()), self.host, self.port, self.timeout) as url:
            self.resp = httpx.post(f"{url}/serve", json=dict(payload), timeout=self.timeout)

    @property
    def successful(self) -> bool | None:
        """Whether the module was served; None before it was tried."""
        return None if self.resp is None else self.resp.status_code == 200

    def state_dict(self) -> dict[str, Any]:
        """What was tried, and whether it went well."""
        return {"successful": self.successful, "optimization": self.optimization, "server": self.server}


def _application(module: ServableModule) -> Any:
    try:
        from fastapi import Body, FastAPI
    except ImportError as error:
        raise MissingPackageError("ServableModuleValidator", "fastapi", error) from error
    application = FastAPI()
    readers, writers = module.configure_serialization()

    def serve(payload: dict[str, Any] = Body(...)) -> dict[str, Any]:
        body: dict[str, Any] = payload["body"]
        given = {name: readers[name](value) if name in readers else value for name, value in body.items()}
        with torch.no_grad():
            output: Any = module.serve_step(**given)
        if not isinstance(output, dict):
            raise WrongTypeError("serve_step", output, "it is no dict", "Return a dict of tensors")
        answer = cast("dict[str, Any]", output)
        return {name: writers[name](value) if name in writers else value for name, value in answer.items()}

    application.post("/serve")(serve)
    return application


@contextmanager
def _served(application: Any, host: str, port: int, timeout_s: float) -> Generator[str]:
    """The application behind a URL, on a thread of its own."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingPackageError("ServableModuleValidator", "uvicorn", error) from error

    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    listener = socket.create_server((host, port))
    server = Server(uvicorn.Config(application, log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],), name="servable", daemon=True)
    thread.start()
    try:
        if not started.wait(timeout_s):
            raise FabricError(f"The server on {host} did not start within {timeout_s} s. Raise timeout.")
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout_s)
        listener.close()
