"""Which operators run, for how long and with how much memory, by torch.profiler."""

import inspect
import os
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.profiler import emit_nvtx as nvtx_ranges
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerAction, ProfilerActivity

from blixt.fabric import ConfigError, nearest
from blixt.trainer.logbook_metrics import parts_of
from blixt.trainer.profilers.base import Profiler

_STEPS = ("training_step", "validation_step", "test_step", "predict_step")
_KEYS = (
    "cpu_time",
    "cpu_time_total",
    "cpu_memory_usage",
    "self_cpu_memory_usage",
    "self_cpu_time_total",
    "count",
)
_DEVICE_KEYS = ("time", "time_total", "memory_usage")
_BATCH = "run_training_batch"
_WAIT, _WARMUP, _ACTIVE = 1, 1, 3


class PyTorchProfiler(Profiler):
    """Records a few steps with torch.profiler: a table of operators, and a trace for Chrome or Perfetto.

    In a fit the schedule counts training steps, elsewhere the steps of the stage. By default one step passes,
    one warms up and three are recorded; runs of fewer steps are recorded whole.

    Args:
        dirpath: Folder for report and traces; default the folder of the first logger.
        filename: Name of the report; None prints it. Traces are files always.
        group_by_input_shapes: Tell calls apart by the shapes of their inputs; needs `record_shapes=True`.
        emit_nvtx: Mark every operator for NVIDIA's own profilers instead of recording here.
        export_to_chrome: Write a `.pt.trace.json` whenever the schedule has recorded its steps.
        row_limit: Rows of the table; -1 for all.
        sort_by_key: Column that the table is sorted by; default the total time on the fastest device.
        record_module_names: Mark the forward pass of every part of the module.
        table_kwargs: More for the table, see `torch.autograd.profiler_util.EventList.table`.
        profiler_kwargs: For `torch.profiler.profile`, such as `schedule`, `activities`, `on_trace_ready`,
            `record_shapes`, `profile_memory` and `with_stack`; `export_to_flame_graph=True` and `metric`
            write stacks for flame graphs.

    Raises:
        ConfigError: For an unknown column or argument, or a schedule that is none.
    """

    AVAILABLE_SORT_KEYS = frozenset(
        (
            *_KEYS,
            *(
                f"{own}{device}_{key}"
                for device in ("cuda", "device")
                for own in ("", "self_")
                for key in _DEVICE_KEYS
            ),
        )
    )

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        group_by_input_shapes: bool = False,
        emit_nvtx: bool = False,
        export_to_chrome: bool = True,
        row_limit: int = 20,
        sort_by_key: str | None = None,
        record_module_names: bool = True,
        table_kwargs: dict[str, Any] | None = None,
        **profiler_kwargs: Any,
    ) -> None:
        super().__init__(dirpath, filename)
        self._by_shape = group_by_input_shapes and bool(profiler_kwargs.get("record_shapes"))
        self._emit_nvtx = emit_nvtx
        self._export_to_chrome = export_to_chrome
        self._row_limit = row_limit
        self._record_module_names = record_module_names
        self._table_kwargs = table_kwargs or {}
        self._flame_metric = profiler_kwargs.pop("metric", "self_cpu_time_total")
        self._flame_graph = bool(profiler_kwargs.pop("export_to_flame_graph", False))
        self._kwargs = _checked_kwargs(profiler_kwargs, self._table_kwargs, self._flame_graph)
        self._sort_by_key = sort_by_key or (
            "device_time_total" if _on_cuda(self._kwargs) else "cpu_time_total"
        )
        if self._sort_by_key not in self.AVAILABLE_SORT_KEYS:
            hint = nearest(self._sort_by_key, self.AVAILABLE_SORT_KEYS).rstrip("?")
            raise ConfigError("PyTorchProfiler(sort_by_key)", sort_by_key, "there is no such column", hint)
        self.function_events: EventList | None = None
        self.profiler: torch.profiler.profile | None = None
        self._module: nn.Module | None = None
        self._open = ExitStack()
        self._running: dict[str, record_function] = {}
        self._steps = 0
        self._begun = False

    def attach(self, module: nn.Module) -> None:
        """Mark the parts of `module`, and know how many steps its trainer will make."""
        self._module = module

    def start(self, action_name: str) -> None:
        """Mark the beginning of an action in the trace; the first batch starts the recording."""
        if not self._begun and (self._stage is None or self._counts(action_name) or action_name == _BATCH):
            self._begun, self.function_events = True, None
            self._begin()
        if self._begun and action_name not in self._running:
            mark = record_function("[pl][profile]" + action_name)
            mark.__enter__()
            self._running[action_name] = mark

    def stop(self, action_name: str) -> None:
        """Mark its end; the end of a step moves the schedule on."""
        mark = self._running.pop(action_name, None)
        if mark is not None:
            mark.__exit__(None, None, None)
        if self.profiler is not None and self._counts(action_name):
            self._steps += 1
            self.profiler.step()

    def _counts(self, action_name: str) -> bool:
        wanted = "training_step" if self._stage == "fit" else _STEPS
        return action_name.endswith(wanted)

    def _begin(self) -> None:
        if self._emit_nvtx:
            if not torch.cuda.is_available():
                raise ConfigError(
                    "PyTorchProfiler(emit_nvtx)", True, "there is no CUDA device", "Leave it out"
                )
            self._open.enter_context(cast("Any", torch.cuda.profiler).profile())
            self._open.enter_context(nvtx_ranges())
        else:
            kwargs: dict[str, Any] = {"on_trace_ready": self._ready, **self._kwargs}
            if "schedule" not in kwargs and self._is_long():
                kwargs["schedule"] = cast("Any", torch.profiler).schedule(
                    wait=_WAIT, warmup=_WARMUP, active=_ACTIVE, repeat=1
                )
            self.profiler = torch.profiler.profile(**kwargs)
            self.profiler.__enter__()
        if self._module is not None and self._record_module_names:
            self._open.enter_context(RegisterRecordFunction(self._module))

    def _is_long(self) -> bool:
        """Whether the run surely has as many steps as the default schedule needs."""
        trainer: Any = getattr(self._module, "_trainer", None)
        if trainer is None:
            return False
        batches: Any = {
            "fit": lambda: trainer.num_training_batches,
            "validate": lambda: sum(trainer.num_val_batches),
            "test": lambda: sum(trainer.num_test_batches),
            "predict": lambda: sum(trainer.num_predict_batches),
        }.get(self._stage or "")
        return batches is not None and batches() >= _WAIT + _WARMUP + _ACTIVE

    def _ready(self, profiler: Any) -> None:
        """The schedule has recorded its steps: keep the table's rows, write the traces."""
        self.function_events = profiler.events()
        if self.dirpath is None:
            if self._export_to_chrome:
                warnings.warn("PyTorchProfiler: no trace is written, because dirpath is None.", stacklevel=2)
            return
        stamp = time.time_ns()
        path = self.file("", f".{stamp}.pt.trace.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._export_to_chrome:
            profiler.export_chrome_trace(str(path))
        if self._flame_graph:
            profiler.export_stacks(str(self.file("", f".{stamp}.stack")), metric=self._flame_metric)

    def summary(self) -> str:
        """The table of operators; "" when nothing was recorded."""
        self._end()
        if self.function_events is None:
            return ""
        rows = cast("Any", self.function_events).key_averages(group_by_input_shapes=self._by_shape)
        table: str = rows.table(
            sort_by=_column(self._sort_by_key), row_limit=self._row_limit, **self._table_kwargs
        )
        rank = "" if self._local_rank is None else f" rank: {self._local_rank}"
        return f"{self.title}\nProfile stats for: records{rank}\n{table}"

    def _end(self) -> None:
        for name in list(self._running):
            self._running.pop(name).__exit__(None, None, None)
        profiler, self.profiler = self.profiler, None
        if profiler is not None:
            cast("Any", profiler).__exit__(None, None, None)
            if self.function_events is None and "on_trace_ready" in self._kwargs:
                self.function_events = profiler.events()
            if self.function_events is None:
                warnings.warn(
                    f"PyTorchProfiler recorded nothing: its schedule begins after {self._steps} step(s).",
                    stacklevel=2,
                )
        self._open.close()

    def teardown(self, stage: str | None) -> None:
        """Stop recording, also after an error."""
        self._end()
        self._module, self._steps, self._begun = None, 0, False

    def __getstate__(self) -> dict[str, Any]:
        idle: dict[str, Any] = {
            "profiler": None,
            "function_events": None,
            "_module": None,
            "_running": {},
            "_begun": False,
        }
        return {**vars(self), **idle, "_open": ExitStack()}


class RegisterRecordFunction:
    """Marks the forward pass of every part of a module, while it is entered.

    Args:
        model: The module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._open = ExitStack()

    def __enter__(self) -> None:
        for name, module in parts_of(self._model):
            if name:
                self._mark(f"[pl][module]{type(module).__module__}.{type(module).__name__}: {name}", module)

    def _mark(self, label: str, module: nn.Module) -> None:
        running: list[record_function] = []

        def before(*_: Any) -> None:
            running.append(record_function(label))
            running[-1].__enter__()

        def after(*_: Any) -> None:
            if running:
                running.pop().__exit__(None, None, None)

        self._open.callback(module.register_forward_pre_hook(before).remove)
        self._open.callback(module.register_forward_hook(after, always_call=True).remove)

    def __exit__(self, *error: object) -> None:
        self._open.close()


def _checked_kwargs(
    kwargs: dict[str, Any], table_kwargs: dict[str, Any], flame_graph: bool
) -> dict[str, Any]:
    for name in table_kwargs:
        known = set(inspect.signature(cast("Any", EventList).table).parameters) - {
            "self",
            "sort_by",
            "row_limit",
        }
        if name not in known:
            hint = nearest(name, known).rstrip("?")
            raise ConfigError("PyTorchProfiler(table_kwargs)", name, "the table has no such argument", hint)
    known = set(inspect.signature(torch.profiler.profile.__init__).parameters) - {"self"}
    for name in kwargs:
        if name not in known:
            raise ConfigError(
                f"PyTorchProfiler({name})",
                kwargs[name],
                "there is no such argument",
                nearest(name, known).rstrip("?"),
            )
    schedule: Callable[[int], Any] | None = kwargs.get("schedule")
    if schedule is not None and not (callable(schedule) and isinstance(schedule(0), ProfilerAction)):
        reason = "it does not give a torch.profiler.ProfilerAction for a step number"
        raise ConfigError("PyTorchProfiler(schedule)", schedule, reason, "Use torch.profiler.schedule(...)")
    kept = {name: value for name, value in kwargs.items() if value is not None}
    if "activities" not in kept:
        cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        kept["activities"] = [ProfilerActivity.CPU, *cuda]
    return {**kept, "with_stack": True} if flame_graph else kept


def _on_cuda(kwargs: dict[str, Any]) -> bool:
    return ProfilerActivity.CUDA in kwargs["activities"]


def _column(key: str) -> str:
    """torch has renamed its cuda_ columns to device_."""
    return key.replace("cuda_", "device_")
