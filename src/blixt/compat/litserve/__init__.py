"""LitServe's names on blixt's servers.

Put the folder that holds this one on PYTHONPATH (`python -m blixt.compat.litserve --path` prints it) and
`import litserve` finds it, in a script and in the worker processes it spawns. Or run a script unchanged with
`python -m blixt.compat.litserve script.py`. Imports in here are relative, so that both names work.
"""

from . import test_examples
from .api import LitAPI
from .callbacks import Callback
from .loggers import Logger
from .server import LitServer, Request, Response
from .specs import OpenAIEmbeddingSpec, OpenAISpec
from .utils import configure_logging, set_trace, set_trace_if_debug

configure_logging()

__version__ = "0.2.19"
"""The version of LitServe whose behaviour is followed."""

__all__ = [
    "Callback",
    "LitAPI",
    "LitServer",
    "Logger",
    "OpenAIEmbeddingSpec",
    "OpenAISpec",
    "Request",
    "Response",
    "configure_logging",
    "set_trace",
    "set_trace_if_debug",
    "test_examples",
]
