"""DeepSpeed's ZeRO: optimizer state, gradients and parameters are divided among the processes."""

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.cluster import World
from blixt.fabric.errors import CheckpointError, ConfigError
from blixt.fabric.strategies.base import Launcher, NoSync
from blixt.fabric.strategies.ddp import Methods
from blixt.fabric.strategies.group import GroupStrategy
from blixt.fabric.strategies.states import names_of

Config = Mapping[str, Any] | str | os.PathLike[str]


class DeepSpeedStrategy(GroupStrategy):
    """A DeepSpeed engine behind the same loop, and checkpoints that every other strategy reads.

    Checkpoints hold whole 32-bit weights and the optimizer's state in torch's own form, gathered from the
    engine, not DeepSpeed's pickles. The engine clips gradients inside its step, so `clip_norm` cannot know
    their norm and returns NaN.

    Args:
        stage: 1 divides optimizer state, 2 gradients too, 3 parameters too.
        offload_optimizer: Keep optimizer state in CPU memory.
        offload_parameters: Keep parameters in CPU memory; stage 3 only.
        nvme_path: Keep both on a disk there instead; stage 3 only.
        zero: More options of DeepSpeed's "zero_optimization", such as {"overlap_comm": True}.
        config: DeepSpeed's configuration, a dict or a JSON file; what it says wins over the other arguments.
        timeout_s: How long a collective waits for the other processes before it fails.
        process_group_backend: "gloo", "nccl", ...; None takes the one that serves the accelerator.
        launcher: How processes are made when nobody made them yet.
        checkpoint_io: What reads and writes checkpoint files.
        layer_sync: What makes layers see the batches of all processes.

    Raises:
        ConfigError: When DeepSpeed is not installed.
    """

    name = "deepspeed"
    needs_group = True
    wraps_evaluation = True
    guards_forward = True
    scales_loss = True

    def __init__(
        self,
        stage: int = 2,
        *,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        nvme_path: str | os.PathLike[str] | None = None,
        zero: Mapping[str, Any] | None = None,
        config: Config | None = None,
        timeout_s: float | timedelta = 1800.0,
        process_group_backend: str | None = None,
        launcher: Launcher | None = None,
        checkpoint_io: Any = None,
        layer_sync: Any = None,
    ) -> None:
        super().__init__(
            timeout_s=timeout_s,
            process_group_backend=process_group_backend,
            launcher=launcher,
            checkpoint_io=checkpoint_io,
            layer_sync=layer_sync,
        )
        if importlib.util.find_spec("deepspeed") is None:
            reason = "the package deepspeed is not installed"
            raise ConfigError("strategy", self.name, reason, "pip install deepspeed, or use strategy='fsdp'")
        if stage not in (1, 2, 3):
            argument = "DeepSpeedStrategy(stage)"
            raise ConfigError(argument, stage, "ZeRO has stages 1, 2 and 3", "Use strategy='ddp' for none")
        if (offload_parameters or nvme_path) and stage != 3:
            reason = "parameters leave the device in stage 3 only"
            raise ConfigError("DeepSpeedStrategy(stage)", stage, reason, "Use stage=3")
        self.stage = stage
        self.zero = {
            "stage": stage,
            **_offload(offload_optimizer, offload_parameters, nvme_path),
            **(zero or {}),
        }
        self.config = _read(config)
        self._engines: dict[int, _Engine] = {}
        self._active: _Engine | None = None

    def connect(self, world: World, backend: str) -> None:
        """Meet the others, and tell DeepSpeed which devices are meant and to be quiet."""
        super().connect(world, backend)
        if "nccl" not in backend:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)

    def init_context(
        self, device: torch.device, empty_init: bool | None = None
    ) -> AbstractContextManager[Any]:
        """In stage 3 every parameter is divided as soon as it is made."""
        if self.stage == 3:
            return cast("Any", import_module("deepspeed")).zero.Init(
                config_dict_or_path=self._configuration()
            )
        return super().init_context(device, empty_init)

    def shard(self, module: nn.Module, device: torch.device, *, move_to_device: bool = True) -> nn.Module:
        """Move the module; the engine divides it when it has its optimizer."""
        if any(hasattr(parameter, "ds_id") for parameter in module.parameters()):
            return self.sync_layers(module)
        return super().shard(module, device, move_to_device=move_to_device)

    def setup_optimizers(
        self, module: nn.Module, optimizers: list[Optimizer], device: torch.device
    ) -> list[Optimizer]:
        """Make the engine of this module; the optimizer that comes back steps through it."""
        if not optimizers:
            return optimizers
        if len(optimizers) > 1:
            reason = f"there are {len(optimizers)} optimizers and an engine has one"
            raise ConfigError("strategy", self.name, reason, "Use one optimizer with parameter groups")
        engine = _Engine(module, optimizers[0], self._configuration())
        self._engines[id(module)] = self._active = engine
        return [engine.stepper]

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """A module that calls the engine; itself without an optimizer."""
        engine = self._engines.get(id(module))
        return module if engine is None else EngineForward(engine)

    def forward_of(
        self, module: nn.Module, name: str, device: torch.device
    ) -> tuple[Callable[..., Any], NoSync]:
        """`module.<name>` through the engine, once it is there."""
        engine = self._engines.get(id(module))
        if engine is None:
            return getattr(module, name), nullcontext

        def call(*args: Any, **kwargs: Any) -> Any:
            return engine.engine(name, *args, **kwargs)

        return call, engine.no_sync

    def activate(self, module: nn.Module) -> None:
        """The next backward belongs to this module's engine."""
        if isinstance(module, EngineForward):
            self._active = module.owner

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Backward inside only adds gradients up."""
        return module.owner.no_sync() if isinstance(module, EngineForward) else nullcontext()

    def backward(self, tensor: torch.Tensor, **kwargs: Any) -> None:
        """The engine's backward, which also scales losses of 16-bit floats."""
        if self._active is None:
            return super().backward(tensor, **kwargs)
        self._active.engine.backward(tensor, **kwargs)

    def clip_norm(
        self,
        parameters: Iterable[nn.Parameter],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
    ) -> torch.Tensor:
        """Have the engine's next step clip; returns NaN, because the norm is not known yet."""
        if norm_type != 2.0:
            reason = "DeepSpeed clips by the 2-norm"
            raise ConfigError("clip_gradients(norm_type)", norm_type, reason, "Use norm_type=2")
        if self._active is not None:
            self._active.zero_optimizer.clip_grad = max_norm
        return torch.tensor(float("nan"))

    def clip_value(self, parameters: Iterable[nn.Parameter], bound: float) -> None:
        """DeepSpeed cannot do this."""
        reason = "DeepSpeed does not clip single values"
        raise ConfigError("clip_gradients(clip_val)", bound, reason, "Clip by norm, or use strategy='fsdp'")

    # --- state ------------------------------------------------------------------------------------

    def module_state(self, module: nn.Module) -> dict[str, Any]:
        """Whole weights as the optimizer keeps them, in 32 bit, on all processes."""
        engine = self._engines.get(id(module))
        if engine is None:
            return super().module_state(module)
        weights = {name: engine.weight(p) for name, p in module.named_parameters(remove_duplicate=False)}
        return {name: weights.get(name, value) for name, value in module.state_dict().items()}

    def load_module_state(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        """Load whole weights, into the engine's copies as well."""
        engine = self._engines.get(id(module))
        with _gathered(list(module.parameters())):
            report = super().load_module_state(module, state, strict)
            values = {p: p.detach().clone() for p in module.parameters()} if engine is not None else {}
        for parameter, value in values.items():
            cast("_Engine", engine).set_weight(parameter, value)
        return report

    def optimizer_state(self, module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """Whole state with parameters numbered as in the optimizer that was given to the engine."""
        engine = self._engines.get(id(module))
        return super().optimizer_state(module, optimizer) if engine is None else engine.optimizer_state()

    def load_optimizer_state(self, module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Divide a whole state among the processes' engines."""
        engine = self._engines.get(id(module))
        if engine is None:
            return super().load_optimizer_state(module, optimizer, state)
        engine.load_optimizer_state(state, names_of(module))

    def disconnect(self) -> None:
        """Leave the group and let go of the engines."""
        self._engines.clear()
        self._active = None
        super().disconnect()

    def _configuration(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": self.zero,
        }
        compute = getattr(self.precision, "compute_dtype", None)
        if compute in (torch.bfloat16, torch.float16):
            made["bf16" if compute == torch.bfloat16 else "fp16"] = {"enabled": True}
        return {**made, **self.config}


class EngineForward(nn.Module):
    """Calls a module through its engine; the engine itself stays out of the tree of modules."""

    def __init__(self, owner: "_Engine") -> None:
        super().__init__()
        vars(self)["owner"] = owner

    @property
    def owner(self) -> "_Engine":
        """The engine."""
        return vars(self)["owner"]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own call."""
        return self.owner.engine("__call__", *args, **kwargs)


class _Engine:
    """A DeepSpeed engine, and the state it divides put together again."""

    def __init__(self, module: nn.Module, optimizer: Optimizer, config: dict[str, Any]) -> None:
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.groups = [list(group["params"]) for group in optimizer.param_groups]
        self.base = optimizer
        deepspeed: Any = import_module("deepspeed")
        # On CPUs DeepSpeed would compile this with a C++ compiler first, and training does not use it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.engine: Any = deepspeed.initialize(
            model=Methods(module), optimizer=optimizer, config=config, dist_init_required=False
        )[0]
        self.zero_optimizer: Any = self.engine.optimizer
        self.stepper = _stepper(optimizer, self.engine)

    @contextmanager
    def no_sync(self) -> Any:
        """The engine's window of micro-batches goes on."""
        self.engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self.engine.set_gradient_accumulation_boundary(True)

    def weight(self, parameter: nn.Parameter) -> torch.Tensor:
        """The whole 32-bit value of a parameter, on the CPU."""
        utils: Any = import_module("deepspeed.utils")

        full: Any = utils.safe_get_full_fp32_param(parameter)
        if full is None:
            with _gathered([parameter]):
                full = parameter.detach().clone()
        return full.detach().float().cpu() if full.is_floating_point() else full.detach().cpu()

    def set_weight(self, parameter: nn.Parameter, value: torch.Tensor) -> None:
        """Change the optimizer's own copy of a parameter."""
        utils: Any = import_module("deepspeed.utils")

        if hasattr(parameter, "ds_id"):
            utils.safe_set_local_fp32_param(parameter, _partition(parameter, value.float()))
        else:
            utils.safe_set_full_fp32_param(parameter, value.float())

    def set_state(self, parameter: nn.Parameter, value: torch.Tensor, key: str) -> None:
        """Change what the optimizer keeps of a parameter under `key`."""
        utils: Any = import_module("deepspeed.utils")

        if hasattr(parameter, "ds_id"):
            utils.safe_set_local_optimizer_state(parameter, _partition(parameter, value), key)
        else:
            utils.safe_set_full_optimizer_state(parameter, value, key)

    def optimizer_state(self) -> dict[str, Any]:
        """In the form of `Optimizer.state_dict`, whole, on the CPU."""
        utils: Any = import_module("deepspeed.utils")

        get: Any = utils.safe_get_full_optimizer_state
        shaped, plain = self._keys()
        state = {
            number: {
                **{key: get(parameter, key).detach().cpu() for key in shaped},
                **{
                    key: value.clone() if isinstance(value, torch.Tensor) else value
                    for key, value in plain.items()
                },
            }
            for number, parameter in enumerate(self.parameters)
        }
        numbers = iter(range(len(self.parameters)))
        groups = [
            {**group, "params": [next(numbers) for _ in parameters]}
            for group, parameters in zip(self.base.param_groups, self.groups, strict=True)
        ]
        return {"state": state if shaped or plain else {}, "param_groups": groups}

    def load_optimizer_state(self, state: Mapping[str, Any], names: Mapping[nn.Parameter, str]) -> None:
        """Give every process its part of a whole state."""
        keys = [key for group in state["param_groups"] for key in group["params"]]
        if len(keys) != len(self.parameters):
            raise CheckpointError(
                f"The checkpoint's optimizer trains {len(keys)} parameters, this one {len(self.parameters)}."
            )
        by_name = {names[p]: p for p in self.parameters if p in names}
        target = {
            k: by_name[k] if isinstance(k, str) else p for k, p in zip(keys, self.parameters, strict=True)
        }
        entries: dict[Any, dict[str, Any]] = state["state"]
        self._prepare_state(next(iter(entries.values()), cast("dict[str, Any]", {})))
        for key, values in state["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and value.dim() > 0:
                    self.set_state(target[key], value, name)
        for group, saved in zip(self.base.param_groups, state["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})

    def _keys(self) -> tuple[list[str], dict[str, Any]]:
        """Names of the state that is shaped like parameters, and what else there is, such as the step."""
        states = cast("dict[Any, dict[str, Any]]", self.base.state)
        flat: dict[str, Any] = next(iter(states.values()), cast("dict[str, Any]", {}))
        shaped = [key for key, value in flat.items() if isinstance(value, torch.Tensor) and value.dim() > 0]
        return shaped, {key: value for key, value in flat.items() if key not in shaped}

    def _prepare_state(self, saved: Mapping[str, Any]) -> None:
        """Make the flat state, which otherwise appears in the first step, with the keys of a saved one."""
        zero: Any = self.zero_optimizer
        divided = hasattr(self.parameters[0], "ds_id")
        flats = zero.fp32_partitioned_groups_flat if divided else zero.single_partition_of_fp32_groups
        for flat in flats:
            values = self.base.state[flat]
            for key, value in saved.items():
                if not isinstance(value, torch.Tensor):
                    values[key] = value
                elif value.dim() == 0:
                    values[key] = value.clone()
                elif key not in values:
                    values[key] = torch.zeros_like(flat)
        if not divided:
            zero._lazy_init_hp_params_optimizer_state()


def _stepper(optimizer: Optimizer, engine: Any) -> Optimizer:
    """`optimizer`, still an instance of its class and with its parameter groups, that steps the engine."""
    base = type(optimizer)

    def step(self: Any, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure is not None else None
        engine.step()
        vars(optimizer)["_opt_called"] = True  # what torch's schedulers look at to see that a step came first
        return loss

    def zero_grad(self: Any, set_to_none: bool = True) -> None:
        engine.optimizer.zero_grad()

    twin = object.__new__(type(f"DeepSpeed{base.__name__}", (base,), {"step": step, "zero_grad": zero_grad}))
    vars(twin).update({name: value for name, value in vars(optimizer).items() if name != "step"})
    return cast("Optimizer", twin)


def _gathered(parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
    """While inside, divided parameters are whole; what rank 0 changes in them is kept on all."""
    divided = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not divided:
        return nullcontext()
    return cast("Any", import_module("deepspeed")).zero.GatheredParameters(divided, modifier_rank=0)


def _partition(parameter: Any, value: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole value; the last parts are padded with zeros, as stage 3 has them."""
    size = parameter.ds_tensor.numel()
    padded = torch.zeros(size * dist.get_world_size(), dtype=value.dtype)
    padded[: value.numel()] = value.flatten()
    return padded.narrow(0, size * dist.get_rank(), size)


def _offload(optimizer: bool, parameters: bool, nvme_path: Any) -> dict[str, Any]:
    place: dict[str, Any] = (
        {"device": "cpu"} if nvme_path is None else {"device": "nvme", "nvme_path": os.fspath(nvme_path)}
    )
    made: dict[str, Any] = {}
    if optimizer or nvme_path is not None:
        made["offload_optimizer"] = place
    if parameters or nvme_path is not None:
        made["offload_param"] = place
    return made


def _read(config: Config | None) -> dict[str, Any]:
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    path = Path(config)
    try:
        return cast("dict[str, Any]", json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        argument = "DeepSpeedStrategy(config)"
        raise ConfigError(argument, str(config), f"it cannot be read: {error}", "Give a JSON file") from error
