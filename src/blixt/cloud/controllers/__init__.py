"""Controllers: they compare what was asked with what is, and do the next thing.

Level-triggered: `reconcile(object)` looks at the object, its allocations and what agents report, and needs no
memory of what happened before, so it may be run again at any time, also after a crash in its middle.
"""

from blixt.cloud.controllers.allocations import Allocation, Allocations
from blixt.cloud.controllers.deployment import DeploymentController
from blixt.cloud.controllers.job import JobController
from blixt.cloud.controllers.manager import Manager
from blixt.cloud.controllers.queue import Lease, LostLease, WorkQueue
from blixt.cloud.controllers.routes import Routes
from blixt.cloud.controllers.studio import StudioController
from blixt.cloud.controllers.sweeper import Sweeper
from blixt.cloud.controllers.volumes import Volumes
from blixt.cloud.controllers.world import World

__all__ = [
    "Allocation",
    "Allocations",
    "DeploymentController",
    "JobController",
    "Lease",
    "LostLease",
    "Manager",
    "Routes",
    "StudioController",
    "Sweeper",
    "Volumes",
    "WorkQueue",
    "World",
]
