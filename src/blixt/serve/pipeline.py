"""APIs in a row: each stage has workers of its own, and values go from worker to worker.

The front passes on what a stage's worker has packed without looking into it; a large value only changes hands
as the name of a piece of shared memory, see `handoff`.
"""

from collections.abc import Sequence
from typing import Any

from blixt.serve.api import API
from blixt.serve.errors import ConfigError


class Pipeline(API):
    """Several APIs behind one path: the first reads the request, the last writes the answer.

    What a stage's `encode_response` (or `predict`) returns arrives as it is at the next stage's
    `decode_request` (or `predict`). Every stage batches and runs on devices of its own; the last may stream.

    Args:
        stages: At least two APIs; their `api_path` and `spec` do not count.
        workers: Worker processes on each device, by stage.
        accelerators: Device kinds by stage ("cpu", "cuda", "mps", "auto"); None: the server's devices.
        api_path: Path of the route.

    Raises:
        ConfigError: A stage cannot be one.

    Example:
        >>> class Half(API):
        ...     def predict(self, x: float) -> float:
        ...         return x / 2
        >>> len(Pipeline([Half(), Half()], workers=[2, 1], accelerators=["cpu", "cpu"]).stages)
        2
    """

    def __init__(
        self,
        stages: Sequence[API],
        *,
        workers: Sequence[int] | None = None,
        accelerators: Sequence[str | None] | None = None,
        api_path: str = "/predict",
    ) -> None:
        super().__init__(api_path=api_path)
        self.stages = tuple(stages)
        count = len(self.stages)
        if count < 2:
            raise ConfigError("Pipeline needs at least two stages; one alone is served as it is.")
        for place, stage in enumerate(self.stages):
            _check(stage, last=place == count - 1)
        self.workers = _each("workers", workers, count, 1)
        self.accelerators = _each("accelerators", accelerators, count, None)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in self.workers):
            raise ConfigError(f"Pipeline: workers={workers!r} are not counts of at least 1.")
        self.stream = self.stages[-1].stream

    def predict(self, x: Any, /) -> Any:
        """All stages after each other, in this process; a server runs them in workers."""
        for stage in self.stages:
            x = stage.encode_response(stage.predict(stage.decode_request(x)))
        return x


def place_of(index: int, count: int) -> str:
    """A stage's name for its plan."""
    return "first" if index == 0 else "last" if index == count - 1 else "middle"


def _each(name: str, values: Sequence[Any] | None, count: int, default: Any) -> list[Any]:
    if values is None:
        return [default] * count
    if len(values) != count:
        raise ConfigError(f"Pipeline: {name} has {len(values)} entries for {count} stages.")
    return list(values)


def _check(stage: Any, *, last: bool) -> None:
    if not isinstance(stage, API):
        raise ConfigError(f"Pipeline got {stage!r}, which is no API.")
    name = type(stage).__name__
    if isinstance(stage, Pipeline) or stage.spec is not None or stage.has_session:
        raise ConfigError(
            f"Pipeline: {name} cannot be a stage; it is a pipeline, or has a spec or a session."
        )
    if stage.stream and not last:
        raise ConfigError(f"Pipeline: {name} streams, which only the last stage may.")
