"""The right pool for an API, with all that it shares with the rest of the server."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from blixt.serve.api import API
from blixt.serve.backstage import Backstage
from blixt.serve.config import Limits
from blixt.serve.devices import resolve_devices
from blixt.serve.metrics import ApiMetrics
from blixt.serve.pipeline import Pipeline, place_of
from blixt.serve.pipeline_hub import PipelinePool
from blixt.serve.plan import make_plan
from blixt.serve.supervisor import OnFatal, Pool, Ties, Watcher

if TYPE_CHECKING:
    from blixt.serve.slab import Slab


class Served(Protocol):
    """What a pool needs to know of its server."""

    @property
    def devices(self) -> Sequence[list[str]]:
        """For each API, one entry a worker."""
        ...

    @property
    def limits(self) -> Limits:
        """Bounds and deadlines."""
        ...

    @property
    def callbacks(self) -> Sequence[Any]:
        """The server's."""
        ...


def pool_for(
    api: API,
    served: Served,
    index: int,
    metrics: ApiMetrics,
    on_fatal: OnFatal,
    *,
    backstage: Backstage,
    slab: "Slab | None" = None,
    watch: Callable[[int], Watcher] | None = None,
) -> Pool | PipelinePool:
    """The pool of an API, or of a pipeline's stages.

    Args:
        api: What is served.
        served: The server: devices of each API, limits, callbacks.
        index: Which of its APIs this is.
        metrics: What to count into.
        on_fatal: Called once if set-up fails for good.
        backstage: What all workers share.
        slab: The front's memory for large bodies.
        watch: Gives, for each stage's place, who brings further fronts to its workers.
    """
    devices, limits = served.devices[index], served.limits

    def ties(stage: str = "", place: int = 0) -> Ties:
        return Ties(
            slab=None if place else slab,
            callbacks=served.callbacks,
            log_address=backstage.log_address,
            folder=backstage.folder,
            stage=stage,
            watcher=None if watch is None else watch(place),
        )

    if not isinstance(api, Pipeline):
        return Pool(api, devices, limits, metrics, on_fatal, ties())
    pools: list[Pool] = []
    for place, stage in enumerate(api.stages):
        kind = api.accelerators[place]
        where = (devices if kind is None else resolve_devices(kind, "auto")) * api.workers[place]
        role = ties(place_of(place, len(api.stages)), place)
        pools.append(Pool(stage, where, limits, metrics, on_fatal, role))
    return PipelinePool(pools, make_plan(api, served.callbacks), metrics)


def stages_of(pool: Pool | PipelinePool) -> list[Pool]:
    """The pools of a pipeline's stages; any other pool is its own only stage."""
    return pool.pools if isinstance(pool, PipelinePool) else [pool]


def renew(pools: Iterable[object]) -> None:
    """Replace the workers of those pools that have any of their own, see `Pool.renew`."""
    for pool in pools:
        if isinstance(pool, Pool | PipelinePool):
            for part in stages_of(pool):
                part.renew()
