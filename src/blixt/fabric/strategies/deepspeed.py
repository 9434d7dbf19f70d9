"""DeepSpeed's ZeRO: optimizer state, gradients and parameters are divided among the processes."""

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.cluster import World
from blixt.fabric.errors import ConfigError
from blixt.fabric.strategies.base import Launcher, NoSync
from blixt.fabric.strategies.deepspeed_engine import Engine, EngineForward, gathered
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
        self._engines: dict[int, Engine] = {}
        self._active: Engine | None = None

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
        engine = Engine(module, optimizers[0], self._configuration())
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
        with gathered(list(module.parameters())):
            report = super().load_module_state(module, state, strict)
            values = {p: p.detach().clone() for p in module.parameters()} if engine is not None else {}
        for parameter, value in values.items():
            cast("Engine", engine).set_weight(parameter, value)
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
