"""Engines: where work runs. An engine allocates a machine, starts the blixt agent in it, and knows no more.

Everything else (commands, logs, files, ports) goes through the agent, so a Studio, a job's rank and a replica
look alike on every engine. `LocalEngine`, the default, makes each allocation a sandbox on this machine.
"""

from blixt.cloud.engines.base import Engine, EngineError, Machine, MachineRequest, Offer
from blixt.cloud.engines.local import LocalEngine

__all__ = ["Engine", "EngineError", "LocalEngine", "Machine", "MachineRequest", "Offer"]
