"""Processes that have different layers, and pass micro-batches on to each other."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.checkpoint.lazy import LazyState
from blixt.fabric.cluster import World
from blixt.fabric.errors import CheckpointError, ConfigError, nearest
from blixt.fabric.mesh import Parallel
from blixt.fabric.strategies.clip import by_mesh, refuse_nonfinite, total_norm
from blixt.fabric.strategies.dtensors import is_dtensor, whole
from blixt.fabric.strategies.fsdp import FSDPStrategy
from blixt.fabric.strategies.materialize import materialize, parts_of
from blixt.fabric.strategies.pipeline_module import LossFn, PipelineModule
from blixt.fabric.strategies.stages import StageFn, known_names, split
from blixt.fabric.strategies.states import load_full_module, load_full_optimizer, named

V_SHAPED = ("zbvzerobubble", "dualpipev")
"""Schedules whose stages go through the processes and back again: the first has the last stage, too."""
SCHEDULES = ("gpipe", "1f1b", "interleaved1f1b", "loopedbfs", "interleavedzerobubble", *V_SHAPED)


class PipelineStrategy(FSDPStrategy):
    """A model divided into stages, with `torch.distributed.pipelining`.

    In a Fabric loop the module that is set up is the whole model, and `loss = model(inputs, target=target)`
    replaces the forward pass and the loss; everything else of the loop stays. In a Trainer, `module` names
    the attribute that is divided, and `training_step` returns `self.<module>(inputs, target=target)`.

    Args:
        parallel: How many processes share what; "pp" is the number of processes in a pipeline, by default
            all. Along the other axes each stage is sharded as FSDP does it.
        schedule: "gpipe", "1f1b", "interleaved1f1b", "loopedbfs", "interleavedzerobubble",
            "zbvzerobubble" or "dualpipev".
        microbatches: Into how many parts a batch is divided.
        loss_fn: (output, target) of one micro-batch to its mean loss.
        split_points: Names of the submodules that begin a stage, see `stages.split`.
        stage_fn: Makes a stage itself.
        example_args: Inputs of one micro-batch, to divide a model by tracing it.
        stages_per_rank: Of one process, for the schedules that have several; 2 when left out.
        module: Name of the submodule that is divided; "" for the module that is set up.
        fsdp: What `FSDPStrategy` takes besides.
    """

    name = "pipeline"

    def __init__(
        self,
        parallel: Parallel | None = None,
        *,
        schedule: str = "1f1b",
        microbatches: int = 4,
        loss_fn: LossFn | None = None,
        split_points: Sequence[str] | None = None,
        stage_fn: StageFn | None = None,
        example_args: tuple[Any, ...] | None = None,
        stages_per_rank: int | None = None,
        module: str = "",
        **fsdp: Any,
    ) -> None:
        super().__init__(parallel=parallel or Parallel(dp_shard=1, pp=-1), **fsdp)
        self.schedule = schedule.lower()
        if self.schedule not in SCHEDULES:
            hint = nearest(self.schedule, SCHEDULES).rstrip("?")
            raise ConfigError("PipelineStrategy(schedule)", schedule, "there is no such schedule", hint)
        if microbatches < 1:
            reason = "a batch has at least one part"
            raise ConfigError("PipelineStrategy(microbatches)", microbatches, reason, "Use 1 or more")
        self.microbatches = microbatches
        self.loss_fn = loss_fn
        self.split_points = split_points
        self.stage_fn = stage_fn
        self.example_args = example_args
        self.stages_per_rank = self._stages_per_rank(stages_per_rank)
        self.module = module
        self._names: Mapping[str, int] = {}

    def _stages_per_rank(self, wanted: int | None) -> int:
        single = self.schedule in ("gpipe", "1f1b")
        if wanted is None:
            return 1 if single else 2
        wrong = wanted != 1 if single else wanted != 2 if self.schedule in V_SHAPED else wanted < 2
        if wrong:
            has = "one stage" if single else "two stages" if self.schedule in V_SHAPED else "several stages"
            reason = f"schedule {self.schedule!r} has {has} a process"
            fix = "Choose another schedule, or leave it out"
            raise ConfigError("PipelineStrategy(stages_per_rank)", wanted, reason, fix)
        return wanted

    def connect(self, world: World, backend: str) -> None:
        """Meet the others; tensor and context parallel stages are a parallelize_fn's business."""
        super().connect(world, backend)
        sizes = self.parallel
        if sizes.tp != 1 or sizes.cp != 1:
            name = "tp" if sizes.tp != 1 else "cp"
            reason = "stages of a pipeline are sharded over data only"
            raise ConfigError(f"Parallel({name})", getattr(sizes, name), reason, "Use ParallelStrategy")
        self._refuse_few_microbatches(sizes.pp)

    def _refuse_few_microbatches(self, stages: int) -> None:
        least = {"1f1b": stages, "dualpipev": 2 * stages}.get(self.schedule, 0)
        if self.microbatches < least:
            reason = f"{least} stages need at least as many micro-batches"
            raise ConfigError("PipelineStrategy(microbatches)", self.microbatches, reason, f"Use {least}")
        if self.schedule == "interleaved1f1b" and self.microbatches % stages:
            reason = f"micro-batches come in rounds of {stages}"
            fix = f"Use a multiple of {stages}"
            raise ConfigError("PipelineStrategy(microbatches)", self.microbatches, reason, fix)

    # --- modules ----------------------------------------------------------------------------------

    def shard(self, module: nn.Module, device: torch.device, *, move_to_device: bool = True) -> nn.Module:
        """Keep this process's stages of the module, or of the submodule that `module=` names."""
        if any(isinstance(part, PipelineModule) for part in module.modules()):
            return module
        module = self.sync_layers(module)
        self._names = known_names(module)
        if not self.module:
            return self._pipelined(module, device)
        parent_name, _, leaf = self.module.rpartition(".")
        try:
            whole_model = module.get_submodule(self.module)
        except AttributeError:
            names = [name for name, _ in parts_of(module) if name]
            hint = nearest(self.module, names).rstrip("?")
            reason = f"{type(module).__name__} has no submodule of this name"
            raise ConfigError("PipelineStrategy(module)", self.module, reason, hint) from None
        setattr(module.get_submodule(parent_name), leaf, self._pipelined(whole_model, device))
        rest = [p for name, p in module.named_parameters() if not name.startswith(f"{self.module}.")]
        for tensor in rest:
            tensor.data = tensor.data.to(device)
        return module

    def _pipelined(self, model: nn.Module, device: torch.device) -> PipelineModule:
        from torch.distributed.pipelining.schedules import get_schedule_class

        mesh = self.device_mesh["pp"]
        count, back = mesh.size() * self.stages_per_rank, self.schedule in V_SHAPED
        indices = stage_indices(mesh.get_local_rank(), mesh.size(), count, back)
        stages = split(
            model,
            count,
            indices,
            split_points=self.split_points,
            stage_fn=self.stage_fn,
            example_args=self.example_args,
        )
        stages = [self._ready(stage, device) for stage in stages]
        kind = get_schedule_class(self.schedule)
        made = PipelineModule(
            stages, indices, count, kind, self.microbatches, self.loss_fn, mesh, device, back
        )
        return made.train(model.training)

    def _ready(self, stage: nn.Module, device: torch.device) -> nn.Module:
        if self.parallel.data_parallel_size > 1:
            return super().shard(stage, device)
        materialize(stage, device)
        return stage.to(device)

    def sync_states(self, module: nn.Module, device: torch.device) -> None:
        """Stages differ among processes: initial values are shared only along the axes of data."""
        group = self._data_group()
        for tensor in [*module.parameters(), *module.buffers()]:
            if is_dtensor(tensor):
                continue
            moved = tensor.detach().to(device)
            cast("Any", dist).broadcast(moved, group=group, group_src=0)
            if moved.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(moved)

    def _data_group(self) -> Any:
        from blixt.fabric.mesh import flat

        names = ("dp_replicate", "dp_shard") if self.parallel.dp_replicate > 1 else ("dp_shard",)
        return flat(self.device_mesh, names, "dp", self.timeout_s).get_group()

    def clip_norm(
        self,
        parameters: Iterable[nn.Parameter],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
    ) -> torch.Tensor:
        """Scale gradients so that the norm over all stages is at most `max_norm`."""
        groups = by_mesh(parameters)
        norm = total_norm(groups, norm_type)
        pipeline = self.device_mesh["pp"].get_group()
        if norm_type == float("inf"):
            cast("Any", dist).all_reduce(norm, dist.ReduceOp.MAX, group=pipeline)
        else:
            norm = norm**norm_type
            cast("Any", dist).all_reduce(norm, group=pipeline)
            norm = norm ** (1 / norm_type)
        refuse_nonfinite(norm, norm_type, error_if_nonfinite)
        for group in groups.values():
            nn.utils.clip_grads_with_norm_(group, max_norm, norm)
        return norm

    # --- state ------------------------------------------------------------------------------------

    def module_state(self, module: nn.Module) -> dict[str, Any]:
        """All stages' tensors on rank 0 and {} elsewhere, or every process's own."""
        if self.state_format == "sharded":
            return super().module_state(module)
        state = {name: whole(value) for name, value in module.state_dict().items()}
        parts = self._gather(state)
        merged = {name: value for part in parts for name, value in part.items()}
        return self._on_first_rank(dict(sorted(merged.items(), key=lambda item: self._place(item[0]))))

    def load_module_state(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        """Load what this process's stages have of the state of the whole model."""
        own = module.state_dict()
        unexpected = [name for name in state if name not in own and name not in self._names]
        if strict and unexpected:
            raise CheckpointError(
                f"The checkpoint does not fit this module: it has {unexpected[0]!r}, which no stage has."
            )
        if isinstance(state, LazyState):
            return load_full_module(module, state.only(own), strict)
        return load_full_module(module, {name: state[name] for name in state if name in own}, strict)

    def optimizer_state(self, module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """All stages' state, numbered as the whole model's parameters are, on rank 0; {} elsewhere."""
        if self.state_format == "sharded":
            return super().optimizer_state(module, optimizer)
        mine = named(module, optimizer)
        entries = {
            name: {key: whole(value) for key, value in values.items()}
            for name, values in mine["state"].items()
        }
        parts = self._gather({"state": entries, "param_groups": mine["param_groups"]})
        if not parts or self.world.rank != 0:
            return {}
        order = self._order([part["param_groups"] for part in parts])
        number = {name: index for index, name in enumerate(name for group in order for name in group)}
        groups = [
            {**group, "params": [number[name] for name in names]}
            for group, names in zip(parts[0]["param_groups"], order, strict=True)
        ]
        merged = {number[name]: values for part in parts for name, values in part["state"].items()}
        return {"state": dict(sorted(merged.items())), "param_groups": groups}

    def load_optimizer_state(self, module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Load what this process's parameters have of the state of the whole model's optimizer."""
        if isinstance(state, LazyState):
            mine = {name for group in named(module, optimizer)["param_groups"] for name in group["params"]}
            state = state.load_for(mine)
        parts: list[Any] = [None] * self.world.world_size
        own = named(module, optimizer)["param_groups"]
        cast("Any", dist).all_gather_object(parts, [{"params": group["params"]} for group in own])
        names = [name for group in self._order(parts) for name in group]
        numbers = [key for group in state["param_groups"] for key in group["params"]]
        if len(numbers) != len(names):
            raise CheckpointError(
                f"The checkpoint's optimizer trains {len(numbers)} parameters and this one {len(names)}."
            )
        name = (
            dict(zip(numbers, names, strict=True))
            if not isinstance(numbers[0], str)
            else {k: k for k in numbers}
        )
        groups = [
            {**saved, "params": group["params"]}
            for saved, group in zip(state["param_groups"], own, strict=True)
        ]
        kept = {entry for group in own for entry in group["params"]}
        entries = {name[key]: values for key, values in state["state"].items() if name[key] in kept}
        load_full_optimizer(module, optimizer, {"state": entries, "param_groups": groups})

    def _order(self, groups: list[Any]) -> list[list[str]]:
        """Names in each parameter group, from all processes, in the order of the whole model."""
        count = len(groups[0])
        names = [
            dict.fromkeys(name for part in groups for name in part[index]["params"]) for index in range(count)
        ]
        return [sorted(group, key=self._place) for group in names]

    def _place(self, name: str) -> int:
        return self._names.get(name, len(self._names))

    def _gather(self, item: Any) -> list[Any]:
        """One object from every process, on rank 0; [] elsewhere."""
        box: list[Any] | None = [None] * self.world.world_size if self.world.rank == 0 else None
        cast("Any", dist).gather_object(item, box)
        return box or []


def stage_indices(rank: int, ranks: int, stages: int, back_again: bool) -> list[int]:
    """Which stages of a pipeline a process has.

    Example:
        >>> [stage_indices(rank, 2, 4, False) for rank in range(2)]
        [[0, 2], [1, 3]]
        >>> [stage_indices(rank, 2, 4, True) for rank in range(2)]
        [[0, 3], [1, 2]]
    """
    return [rank, stages - 1 - rank] if back_again else list(range(rank, stages, ranks))
