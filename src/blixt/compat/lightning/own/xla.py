"""Marks a run's steps for the profiler of torch_xla."""

from collections import Counter
from importlib import import_module
from typing import Any, ClassVar

from blixt.fabric import MissingPackageError
from blixt.trainer import Profiler


class XLAProfiler(Profiler):
    """Serves traces of steps and backward passes on a port, where TensorBoard collects them.

    Args:
        port: Of the profiler's server, which starts with the first step.

    Raises:
        MissingPackageError: Without torch_xla.
    """

    STEP_FUNCTIONS: ClassVar[frozenset[str]] = frozenset({"validation_step", "test_step", "predict_step"})
    RECORD_FUNCTIONS: ClassVar[frozenset[str]] = STEP_FUNCTIONS | {"training_step", "backward"}

    def __init__(self, port: int = 9012) -> None:
        super().__init__()
        try:
            self._tracing: Any = import_module("torch_xla.debug.profiler")
        except ImportError as error:
            raise MissingPackageError("XLAProfiler", "torch_xla", error) from error
        self.port = port
        self._serving: list[Any] = []
        self._steps: Counter[str] = Counter()
        self._open: dict[str, Any] = {}

    def start(self, action_name: str) -> None:
        """Begin the trace of an action that is worth one."""
        function = action_name.rpartition(".")[2]
        if function not in self.RECORD_FUNCTIONS:
            return
        if not self._serving:
            self._serving.append(self._tracing.start_server(self.port))  # it serves while it is held
        if function in self.STEP_FUNCTIONS:
            self._steps[action_name] += 1
            trace = self._tracing.StepTrace(action_name, step_num=self._steps[action_name])
        else:
            trace = self._tracing.Trace(action_name)
        self._open[action_name] = trace
        trace.__enter__()

    def stop(self, action_name: str) -> None:
        """End it."""
        trace = self._open.pop(action_name, None)
        if trace is not None:
            trace.__exit__(None, None, None)
