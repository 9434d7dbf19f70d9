"""A model class becomes a service: HTTP in front, worker processes behind, batching and streams between.

Write an `API` (load the model in `setup`, answer in `predict`), hand it to a `Server`, call `run`. The names
load on first use, so that `import blixt.serve` is quick and a worker never imports a web framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.serve.api import API
    from blixt.serve.callbacks import Callback, PredictionTimeLogger, RequestTracker
    from blixt.serve.codecs.answers import Reply
    from blixt.serve.codecs.forms import Form, UploadFile
    from blixt.serve.config import Limits
    from blixt.serve.errors import ConfigError, HTTPError, PortInUse, ServeError, SetupFailed
    from blixt.serve.files import run_file, server_of
    from blixt.serve.http.web import CORS, Web
    from blixt.serve.hub_rules import Incoming
    from blixt.serve.loggers import Logger
    from blixt.serve.mcp import MCP
    from blixt.serve.pipeline import Pipeline
    from blixt.serve.reload import run_with_reload
    from blixt.serve.server import Server
    from blixt.serve.specs.base import Call, Endpoint, Spec
    from blixt.serve.specs.openai import OpenAISpec
    from blixt.serve.specs.openai_embeddings import OpenAIEmbeddingSpec
    from blixt.serve.specs.openai_types import (
        ChatRequest,
        CompletionRequest,
        Embedding,
        EmbeddingRequest,
        Message,
        Piece,
        TokenLogprob,
    )
    from blixt.serve.specs.stops import StopFilter
    from blixt.serve.tryout import dry_run
    from blixt.serve.worker.continuous import Output
    from blixt.serve.worker.inbox import Context
    from blixt.serve.worker.sessions import Socket, SocketClosed

_FILE_OF = {
    "API": "api",
    "CORS": "http.web",
    "Call": "specs.base",
    "Callback": "callbacks",
    "ChatRequest": "specs.openai_types",
    "CompletionRequest": "specs.openai_types",
    "ConfigError": "errors",
    "Context": "worker.inbox",
    "Embedding": "specs.openai_types",
    "EmbeddingRequest": "specs.openai_types",
    "Endpoint": "specs.base",
    "Form": "codecs.forms",
    "HTTPError": "errors",
    "Incoming": "hub_rules",
    "Limits": "config",
    "Logger": "loggers",
    "MCP": "mcp",
    "Message": "specs.openai_types",
    "OpenAIEmbeddingSpec": "specs.openai_embeddings",
    "OpenAISpec": "specs.openai",
    "Output": "worker.continuous",
    "Piece": "specs.openai_types",
    "Pipeline": "pipeline",
    "PortInUse": "errors",
    "PredictionTimeLogger": "callbacks",
    "Reply": "codecs.answers",
    "RequestTracker": "callbacks",
    "ServeError": "errors",
    "Server": "server",
    "SetupFailed": "errors",
    "Socket": "worker.sessions",
    "SocketClosed": "worker.sessions",
    "Spec": "specs.base",
    "StopFilter": "specs.stops",
    "TokenLogprob": "specs.openai_types",
    "UploadFile": "codecs.forms",
    "Web": "http.web",
    "dry_run": "tryout",
    "run_file": "files",
    "server_of": "files",
    "run_with_reload": "reload",
}

__all__ = [
    "API",
    "CORS",
    "MCP",
    "Call",
    "Callback",
    "ChatRequest",
    "CompletionRequest",
    "ConfigError",
    "Context",
    "Embedding",
    "EmbeddingRequest",
    "Endpoint",
    "Form",
    "HTTPError",
    "Incoming",
    "Limits",
    "Logger",
    "Message",
    "OpenAIEmbeddingSpec",
    "OpenAISpec",
    "Output",
    "Piece",
    "Pipeline",
    "PortInUse",
    "PredictionTimeLogger",
    "Reply",
    "RequestTracker",
    "ServeError",
    "Server",
    "SetupFailed",
    "Socket",
    "SocketClosed",
    "Spec",
    "StopFilter",
    "TokenLogprob",
    "UploadFile",
    "Web",
    "dry_run",
    "run_file",
    "run_with_reload",
    "server_of",
]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.serve' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.serve.{file}"), name)
    globals()[name] = value
    return value
