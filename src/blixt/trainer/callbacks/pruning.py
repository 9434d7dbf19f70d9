"""Set unimportant weights to zero while training."""

import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn.utils import prune

from blixt.fabric import ConfigError, nearest
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

torch_prune: Any = prune  # torch leaves it untyped
ParameterList = Sequence[tuple[nn.Module, str]]
Amount = int | float
_METHODS = {
    "ln_structured": torch_prune.LnStructured,
    "l1_unstructured": torch_prune.L1Unstructured,
    "random_structured": torch_prune.RandomStructured,
    "random_unstructured": torch_prune.RandomUnstructured,
}


class ModelPruning(Callback):
    """Prunes with torch's own methods at the end of epochs.

    Checkpoints hold the pruned weights under their usual names, and the masks as state of this callback, so
    that a resumed run goes on pruned.

    Args:
        pruning_fn: "l1_unstructured", "random_unstructured", "ln_structured", "random_structured", or a class
            derived from `torch.nn.utils.prune.BasePruningMethod`.
        parameters_to_prune: Pairs of a module and a parameter's name; default all weights and biases.
        parameter_names: Of which names: "weight", "bias", or both, the default.
        use_global_unstructured: Compare the weights of all modules with each other.
        amount: How many (int), which part of them (float), or a function of the epoch for either.
        apply_pruning: Whether to prune, or a function of the epoch.
        make_pruning_permanent: Remove the masks when training ends, and from what checkpoints hold.
        use_lottery_ticket_hypothesis: After pruning give the weights that stay their first values again
            (Frankle and Carbin: "The Lottery Ticket Hypothesis", ICLR 2019); or a function of the epoch.
        resample_parameters: Give them new first values instead.
        pruning_dim: Dimension of structured methods.
        pruning_norm: Norm of "ln_structured".
        verbose: 1 prints the overall sparsity, 2 that of each module.
        prune_on_train_epoch_end: Prune then rather than after validation.
    """

    PARAMETER_NAMES = ("weight", "bias")

    def __init__(
        self,
        pruning_fn: str | type[prune.BasePruningMethod],
        parameters_to_prune: ParameterList = (),
        parameter_names: list[str] | None = None,
        use_global_unstructured: bool = True,
        amount: Amount | Callable[[int], Amount] = 0.5,
        apply_pruning: bool | Callable[[int], bool] = True,
        make_pruning_permanent: bool = True,
        use_lottery_ticket_hypothesis: bool | Callable[[int], bool] = True,
        resample_parameters: bool = False,
        pruning_dim: int | None = None,
        pruning_norm: int | None = None,
        verbose: int = 0,
        prune_on_train_epoch_end: bool = True,
    ) -> None:
        for name in parameter_names or ():
            if name not in self.PARAMETER_NAMES:
                raise ConfigError(
                    "ModelPruning(parameter_names)", name, "it is unknown", "Use 'weight' and 'bias'"
                )
        if verbose not in (0, 1, 2):
            raise ConfigError("ModelPruning(verbose)", verbose, "it is unknown", "Use 0, 1 or 2")
        self._global = use_global_unstructured
        self._prune: Any = _method(pruning_fn, use_global_unstructured, pruning_dim, pruning_norm)
        self._parameters: ParameterList = parameters_to_prune
        self._names = tuple(parameter_names or self.PARAMETER_NAMES)
        self.amount = amount
        self._when = apply_pruning
        self._permanent = make_pruning_permanent
        self._lottery = use_lottery_ticket_hypothesis
        self._resample = resample_parameters
        self._verbose = verbose
        self._at_epoch_end = prune_on_train_epoch_end
        self._originals: list[nn.Module] = []
        self._restored: dict[str, Any] = {}
        self._paths: list[str] = []

    def filter_parameters_to_prune(self, parameters_to_prune: ParameterList = ()) -> ParameterList:
        """Override it to choose among the parameters."""
        return parameters_to_prune

    @staticmethod
    def sanitize_parameters_to_prune(
        pl_module: nn.Module,
        parameters_to_prune: ParameterList = (),
        parameter_names: Sequence[str] | None = None,
    ) -> ParameterList:
        """The given pairs, if the module has them all; without any, its parameters with such names."""
        names = parameter_names or ModelPruning.PARAMETER_NAMES
        return _checked(pl_module, parameters_to_prune or _prunable(pl_module, names))

    # --- hooks ------------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Find the parameters, and remember their first values."""
        if stage == "fit":
            whole = cast("nn.Module", module)
            found = self.sanitize_parameters_to_prune(whole, self._parameters, self._names)
            self._parameters = self.filter_parameters_to_prune(found)
            named: list[tuple[str, nn.Module]] = list(cast("Any", module).named_modules())
            paths = {id(child): name for name, child in named}
            self._paths = [f"{paths[id(child)]}.{name}".lstrip(".") for child, name in self._parameters]
            self._originals = [deepcopy(child) for child, _ in self._parameters] if self._lottery else []

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """A resumed run is as pruned as it was."""
        masks, first = self._restored.get("masks", {}), self._restored.get("first_values", {})
        for index, ((child, name), path) in enumerate(zip(self._parameters, self._paths, strict=True)):
            if path in masks and not hasattr(child, f"{name}_mask"):
                torch_prune.custom_from_mask(child, name, masks[path].to(getattr(child, name).device))
            if path in first and self._originals:
                getattr(self._originals[index], name).data.copy_(first[path])
        self._restored = {}

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Prune."""
        if self._at_epoch_end:
            self._run(trainer)

    def on_validation_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Prune, if it is to be after validation."""
        if not self._at_epoch_end and trainer.stage == "fit" and not trainer.sanity_checking:
            self._run(trainer)

    def on_train_end(self, trainer: "Trainer", module: "Module") -> None:
        """Leave plain modules behind."""
        if self._permanent:
            self.make_pruning_permanent(module)

    def on_save_checkpoint(self, trainer: "Trainer", module: "Module", checkpoint: dict[str, Any]) -> None:
        """Give weights their usual names."""
        if self._permanent:
            state = checkpoint["state_dict"]
            for name in [key.removesuffix("_mask") for key in state if key.endswith("_mask")]:
                weight, mask = state.pop(f"{name}_orig"), state.pop(f"{name}_mask")
                state[name] = weight * mask.to(weight.dtype)

    def state_dict(self) -> dict[str, Any]:
        """The masks, and the first values if they are wanted again."""
        pairs = list(zip(self._parameters, self._paths, strict=True)) if self._paths else []
        masks = {
            path: getattr(child, f"{name}_mask") for (child, name), path in pairs if _masked(child, name)
        }
        names = [name for (_, name), _ in pairs]
        first = {
            path: getattr(original, name).detach()
            for original, name, path in zip(self._originals, names, self._paths, strict=False)
        }
        return {"masks": masks, "first_values": first} if masks or first else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them for `on_fit_start`."""
        self._restored = dict(state_dict)

    # --- pruning ----------------------------------------------------------------------------------

    def apply_pruning(self, amount: Amount) -> None:
        """Prune so many, or such a part, of the weights that are left."""
        before = [_sparsity(child, name) for child, name in self._parameters]
        if self._global:
            torch_prune.global_unstructured(
                self._parameters, pruning_method=self._prune, **self._accepted({"amount": amount})
            )
        else:
            for child, name in self._parameters:
                self._prune(child, name=name, amount=amount)
        if self._verbose:
            after = [_sparsity(child, name) for child, name in self._parameters]
            self._tell(before, after)

    def apply_lottery_ticket_hypothesis(self) -> None:
        """Give every weight its first value again; the masks stay."""
        for (child, name), original in zip(self._parameters, self._originals, strict=True):
            source = original
            if self._resample and hasattr(original, "reset_parameters"):
                source = deepcopy(original)
                source.reset_parameters()  # pyright: ignore[reportCallIssue]
            target = getattr(child, f"{name}_orig", None)
            target = getattr(child, name) if target is None else target
            target.data.copy_(getattr(source, name).data)

    def make_pruning_permanent(self, module: nn.Module) -> None:
        """Put the pruned weights in the place of weights and masks."""
        for child, name in self._parameters:
            if _masked(child, name):
                torch_prune.remove(child, name)

    def _run(self, trainer: "Trainer") -> None:
        epoch = trainer.current_epoch
        amount = self.amount(epoch) if callable(self.amount) else self.amount
        if not amount or not _answer(self._when, epoch):
            return
        self.apply_pruning(amount)
        if self._originals and _answer(self._lottery, epoch):
            self.apply_lottery_ticket_hypothesis()

    def _accepted(self, options: dict[str, Any]) -> dict[str, Any]:
        names = inspect.signature(self._prune).parameters
        return {name: value for name, value in options.items() if name in names}

    def _tell(self, before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
        total = sum(count for _, count in after)
        zeros = [sum(pair[0] for pair in pairs) for pairs in (before, after)]
        print(f"ModelPruning: {zeros[0]}/{total} -> {zeros[1]}/{total} ({zeros[1] / total:.2%}) are zero")
        if self._verbose == 2:
            for path, (zero, count) in zip(self._paths, after, strict=True):
                print(f"  {path}: {zero}/{count} ({zero / count:.2%})")


def _method(given: Any, over_all: bool, dim: int | None, norm: int | None) -> Any:
    """What prunes: a class for pruning over all modules, a function for one module at a time."""
    if isinstance(given, str):
        name = given.lower()
        if name not in _METHODS:
            raise ConfigError(
                "ModelPruning(pruning_fn)",
                given,
                "torch has no such method",
                nearest(name, _METHODS).rstrip("?"),
            )
        method: Any = _METHODS[name]
        options: dict[str, Any] = {}
        if name.endswith("_structured") and not name.endswith("unstructured"):
            if dim is None:
                reason = f"{name} removes whole slices"
                raise ConfigError("ModelPruning(pruning_dim)", None, reason, "Say of which dimension")
            options["dim"] = dim
        if name == "ln_structured":
            if norm is None:
                reason = "ln_structured compares slices by a norm"
                raise ConfigError("ModelPruning(pruning_norm)", None, reason, "Say by which, e.g. 2")
            options["n"] = norm
        function = method if over_all else partial(getattr(torch_prune, name), **options)
    elif inspect.isclass(given) and issubclass(given, torch_prune.BasePruningMethod):
        if not over_all:
            reason = "a class of your own works over all modules only"
            raise ConfigError("ModelPruning(use_global_unstructured)", False, reason, "Leave it True")
        method = function = given
    else:
        reason = "it is neither a name nor a class derived from BasePruningMethod"
        raise ConfigError("ModelPruning(pruning_fn)", given, reason, f"Use one of {', '.join(_METHODS)}")
    if over_all and method.PRUNING_TYPE != "unstructured":
        reason = f"{method.__name__} is {method.PRUNING_TYPE}, and works on one module at a time"
        raise ConfigError("ModelPruning(use_global_unstructured)", True, reason, "Set it to False")
    return function


def _prunable(module: nn.Module, names: Sequence[str]) -> ParameterList:
    children = [child for child in module.modules() if child is not module]
    return [
        (child, name)
        for name in names
        for child in children
        if isinstance(getattr(child, name, None), nn.Parameter)
    ]


def _checked(module: nn.Module, parameters: ParameterList) -> ParameterList:
    known = {id(child) for child in module.modules()}
    for child, name in parameters:
        if id(child) not in known or not hasattr(child, name):
            what = f"{type(child).__name__}.{name}"
            reason = "the module that is trained has no such parameter"
            raise ConfigError("ModelPruning(parameters_to_prune)", what, reason, "Take it from that module")
    return parameters


def _masked(module: nn.Module, name: str) -> bool:
    return hasattr(module, f"{name}_mask")


def _sparsity(module: nn.Module, name: str) -> tuple[int, int]:
    if not _masked(module, name):
        return 0, getattr(module, name).numel()
    mask: torch.Tensor = getattr(module, f"{name}_mask")
    return int((mask == 0).sum()), mask.numel()


def _answer(question: bool | Callable[[int], bool], epoch: int) -> bool:
    return question(epoch) if callable(question) else question
