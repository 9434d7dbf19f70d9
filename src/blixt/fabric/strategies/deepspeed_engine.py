"""One DeepSpeed engine, and the state it divides put together again."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from blixt.fabric.errors import CheckpointError
from blixt.fabric.strategies.ddp import Methods


class EngineForward(nn.Module):
    """Calls a module through its engine; the engine itself stays out of the tree of modules."""

    def __init__(self, owner: "Engine") -> None:
        super().__init__()
        vars(self)["owner"] = owner

    @property
    def owner(self) -> "Engine":
        """The engine."""
        return vars(self)["owner"]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own call."""
        return self.owner.engine("__call__", *args, **kwargs)


class Engine:
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
    def no_sync(self) -> Generator[None]:
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
            with gathered([parameter]):
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


def gathered(parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
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
