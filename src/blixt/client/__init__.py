"""The Python SDK: Studios, jobs, deployments, experiments and models of a blixt cloud, over HTTP.

`Studio.create("lab").run("nvidia-smi")`, `Job.run("python train.py").wait()`: each class is one kind of
object, finds its server by itself (see `Client`), and raises errors that say what to do. Nothing here needs
torch or the server's packages.
"""

from blixt.client.budget import Budget
from blixt.client.client import Client, default_client, set_default_client
from blixt.client.config import (
    Connection,
    credentials_path,
    default_data_dir,
    find_connection,
    forget_credentials,
    save_credentials,
)
from blixt.client.deployment import Deployment
from blixt.client.errors import (
    ApiError,
    BlixtError,
    BudgetExceeded,
    CommandFailed,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotConfigured,
    NotFound,
    ProtocolError,
    ServerUnreachable,
    SourceError,
    StateError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    WaitTimeout,
)
from blixt.client.experiment import ActiveRun, Experiment
from blixt.client.job import Job
from blixt.client.model import Model
from blixt.client.pack import pack
from blixt.client.resource import Resource, Stateful
from blixt.client.secret import Secret
from blixt.client.studio import Studio, print_output
from blixt.client.terminal import Terminal
from blixt.client.types import (
    MICRO_CREDITS,
    Bill,
    BillLine,
    Identity,
    LogLine,
    Machine,
    Member,
    ModelFile,
    ModelVersion,
    ObjectData,
    Result,
    Run,
    Series,
    Teamspace,
    credits,
)

__all__ = [
    "MICRO_CREDITS",
    "ActiveRun",
    "ApiError",
    "Bill",
    "BillLine",
    "BlixtError",
    "Budget",
    "BudgetExceeded",
    "Client",
    "CommandFailed",
    "Conflict",
    "Connection",
    "Deployment",
    "Experiment",
    "Forbidden",
    "Identity",
    "InvalidRequest",
    "Job",
    "LogLine",
    "Machine",
    "Member",
    "Model",
    "ModelFile",
    "ModelVersion",
    "NotConfigured",
    "NotFound",
    "ObjectData",
    "ProtocolError",
    "Resource",
    "Result",
    "Run",
    "Secret",
    "Series",
    "ServerUnreachable",
    "SourceError",
    "StateError",
    "Stateful",
    "Studio",
    "Teamspace",
    "Terminal",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "WaitTimeout",
    "credentials_path",
    "credits",
    "default_client",
    "default_data_dir",
    "find_connection",
    "forget_credentials",
    "pack",
    "print_output",
    "save_credentials",
    "set_default_client",
]
