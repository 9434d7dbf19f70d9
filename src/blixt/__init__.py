"""blixt: the whole AI cloud in one Python package.

Train (`Fabric`, `Trainer`), prepare data (`blixt.data`), build language models (`blixt.llm`), serve
(`blixt.serve`) and run all of it on the cloud that `blixt up` starts (`Studio`, `Job`, `Deployment`).

The public names load on first use, so `import blixt` costs milliseconds and never imports torch.
"""

from importlib import import_module

# Type checkers take it as true; importing `typing` for it would cost more than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from blixt.client import Client, Deployment, Experiment, Job, Model, Studio
    from blixt.fabric import Fabric, seed_everything
    from blixt.trainer import CLI, Callback, DataModule, Module, Trainer

__version__ = "0.1.0"

_ROOM_OF = {
    "Fabric": "blixt.fabric",
    "seed_everything": "blixt.fabric",
    "Module": "blixt.trainer",
    "DataModule": "blixt.trainer",
    "Trainer": "blixt.trainer",
    "Callback": "blixt.trainer",
    "CLI": "blixt.trainer",
    "Client": "blixt.client",
    "Studio": "blixt.client",
    "Job": "blixt.client",
    "Deployment": "blixt.client",
    "Experiment": "blixt.client",
    "Model": "blixt.client",
}

__all__ = [
    "CLI",
    "Callback",
    "Client",
    "DataModule",
    "Deployment",
    "Experiment",
    "Fabric",
    "Job",
    "Model",
    "Module",
    "Studio",
    "Trainer",
    "__version__",
    "seed_everything",
]


def __getattr__(name: str) -> object:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'blixt' has no attribute {name!r}")
    value = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOM_OF])
