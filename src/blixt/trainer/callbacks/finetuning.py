"""Train the head of a model first, and the rest later."""

import warnings
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.optim import Optimizer

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

Modules = nn.Module | Iterable["nn.Module | Iterable[Any]"]


class BaseFinetuning(Callback):
    """Override `freeze_before_training` and `finetune_function`.

    Parameters that join the optimizer later do so as parameter groups of their own; a resumed run has the
    same groups again.

    Example:
        >>> class HeadFirst(BaseFinetuning):
        ...     def freeze_before_training(self, pl_module):
        ...         self.freeze(pl_module.backbone)
        ...
        ...     def finetune_function(self, pl_module, epoch, optimizer):
        ...         if epoch == 3:
        ...             self.unfreeze_and_add_param_group(pl_module.backbone, optimizer)
    """

    def __init__(self) -> None:
        self._groups: dict[int, list[dict[str, Any]]] = {}
        self._trained: list[str] = []
        self._resumed = False

    # --- what to override -------------------------------------------------------------------------

    def freeze_before_training(self, pl_module: "Module") -> None:
        """Freeze what is not trained at first; runs before the optimizers are made."""

    def finetune_function(self, pl_module: "Module", epoch: int, optimizer: Optimizer) -> None:
        """Called at the beginning of every epoch with every optimizer."""

    # --- tools ------------------------------------------------------------------------------------

    @staticmethod
    def flatten_modules(modules: Modules) -> list[nn.Module]:
        """All modules below these that hold parameters of their own or no other modules."""
        if not isinstance(modules, nn.Module):
            return [leaf for module in modules for leaf in BaseFinetuning.flatten_modules(module)]
        return [m for m in modules.modules() if not list(m.children()) or list(m.parameters(recurse=False))]

    @staticmethod
    def filter_params(
        modules: Modules, train_bn: bool = True, requires_grad: bool = True
    ) -> Generator[nn.Parameter]:
        """The parameters of these modules that are trained, or are not.

        Args:
            modules: Where to look.
            train_bn: Count those of batch norms.
            requires_grad: Which of the two.
        """
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm) and not train_bn:
                continue
            yield from (p for p in module.parameters(recurse=False) if p.requires_grad == requires_grad)

    @staticmethod
    def make_trainable(modules: Modules) -> None:
        """Train all parameters of these modules."""
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm):
                module.track_running_stats = True
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = True

    @staticmethod
    def freeze_module(module: nn.Module) -> None:
        """Stop training the parameters of one module, without those of its children."""
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False

    @staticmethod
    def freeze(modules: Modules, train_bn: bool = True) -> None:
        """Stop training these modules.

        Args:
            modules: Which.
            train_bn: Go on training batch norms among them.
        """
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm) and train_bn:
                BaseFinetuning.make_trainable(module)
            else:
                BaseFinetuning.freeze_module(module)

    @staticmethod
    def filter_on_optimizer(optimizer: Optimizer, params: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Those that the optimizer does not have yet."""
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        given = list(params)
        fresh = [parameter for parameter in given if id(parameter) not in known]
        if len(fresh) < len(given):
            warnings.warn(
                f"{len(given) - len(fresh)} of the parameters to train are in the optimizer already: freeze "
                "them before it is made, in freeze_before_training.",
                stacklevel=3,
            )
        return fresh

    @staticmethod
    def unfreeze_and_add_param_group(
        modules: Modules,
        optimizer: Optimizer,
        lr: float | None = None,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
    ) -> None:
        """Train these modules from now on, as a parameter group of their own.

        Args:
            modules: Which.
            optimizer: That will move them.
            lr: Their learning rate; default that of the first group divided by `initial_denom_lr`.
            initial_denom_lr: See `lr`.
            train_bn: Whether batch norms among them are trained.
        """
        BaseFinetuning.make_trainable(modules)
        rate = optimizer.param_groups[0]["lr"] / initial_denom_lr if lr is None else lr
        found = BaseFinetuning.filter_params(modules, train_bn=train_bn, requires_grad=True)
        fresh = BaseFinetuning.filter_on_optimizer(optimizer, found)
        if fresh:
            optimizer.add_param_group({"params": fresh, "lr": rate})

    # --- hooks ------------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Freeze before the optimizers are made."""
        if stage == "fit":
            self.freeze_before_training(module)

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """A resumed run gets its parameter groups back before their states."""
        if not self._resumed:
            return
        named = dict(module.named_parameters())
        for index, groups in self._groups.items():
            optimizer = _inner(trainer.optimizers[int(index)])
            rebuilt = [{**group, "params": [named[name] for name in group["params"]]} for group in groups]
            optimizer.param_groups[:] = rebuilt
        for name, parameter in named.items():
            parameter.requires_grad = name in self._trained
        for norm in (m for m in module.modules() if isinstance(m, _BatchNorm) and m.affine):
            norm.track_running_stats = norm.weight.requires_grad
        self._resumed = False

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Let `finetune_function` work, and remember which groups came of it."""
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for index, wrapped in enumerate(trainer.optimizers):
            optimizer = _inner(wrapped)
            self.finetune_function(module, trainer.current_epoch, optimizer)
            self._groups[index] = [
                {key: _plain(value) for key, value in group.items() if key != "params"}
                | {"params": [names[id(p)] for p in group["params"]]}
                for group in optimizer.param_groups
            ]
        self._trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]

    def state_dict(self) -> dict[str, Any]:
        """The parameter groups and what is trained, by the names of the parameters."""
        return {"internal_optimizer_metadata": dict(self._groups), "trained": list(self._trained)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember to make the same groups again."""
        self._groups = dict(state_dict["internal_optimizer_metadata"])
        of_groups = [name for groups in self._groups.values() for group in groups for name in group["params"]]
        self._trained = state_dict.get("trained", of_groups)
        self._resumed = True


class BackboneFinetuning(BaseFinetuning):
    """Freezes `module.backbone`, and trains it from one epoch on with a learning rate of its own.

    Args:
        unfreeze_backbone_at_epoch: From which epoch on, counted from 0.
        lambda_func: Factor from the epoch by which the backbone's learning rate grows.
        backbone_initial_ratio_lr: Its first learning rate as a part of the head's.
        backbone_initial_lr: Its first learning rate itself.
        should_align: Let it never exceed the head's.
        initial_denom_lr: What `unfreeze_and_add_param_group` divides by when no rate is given.
        train_bn: Whether batch norms of the backbone are trained, from the first epoch on.
        verbose: Print both learning rates every epoch.
        rounding: Digits of what is printed.
    """

    def __init__(
        self,
        unfreeze_backbone_at_epoch: int = 10,
        lambda_func: Callable[[int], float] | None = None,
        backbone_initial_ratio_lr: float = 0.1,
        backbone_initial_lr: float | None = None,
        should_align: bool = True,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
        verbose: bool = False,
        rounding: int = 12,
    ) -> None:
        super().__init__()
        self.unfreeze_backbone_at_epoch = unfreeze_backbone_at_epoch
        self.lambda_func = lambda_func if lambda_func is not None else _doubles
        self.backbone_initial_ratio_lr = backbone_initial_ratio_lr
        self.backbone_initial_lr = backbone_initial_lr
        self.should_align = should_align
        self.initial_denom_lr = initial_denom_lr
        self.train_bn = train_bn
        self.verbose = verbose
        self.rounding = rounding
        self.previous_backbone_lr: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The groups, and the backbone's learning rate."""
        return {**super().state_dict(), "previous_backbone_lr": self.previous_backbone_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self.previous_backbone_lr = state_dict["previous_backbone_lr"]
        super().load_state_dict(state_dict)

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Refuse a module without a backbone.

        Raises:
            ConfigError: When `module.backbone` is missing or no module.
        """
        _backbone(module)
        super().on_fit_start(trainer, module)

    def freeze_before_training(self, pl_module: "Module") -> None:
        """Freeze the backbone."""
        self.freeze(_backbone(pl_module), train_bn=self.train_bn)

    def finetune_function(self, pl_module: "Module", epoch: int, optimizer: Optimizer) -> None:
        """Unfreeze it when its epoch comes, and let its learning rate grow afterwards."""
        head = float(optimizer.param_groups[0]["lr"])
        if epoch == self.unfreeze_backbone_at_epoch:
            given = self.backbone_initial_lr
            rate = head * self.backbone_initial_ratio_lr if given is None else given
            self.unfreeze_and_add_param_group(
                _backbone(pl_module), optimizer, rate, self.initial_denom_lr, self.train_bn
            )
        elif epoch > self.unfreeze_backbone_at_epoch and self.previous_backbone_lr is not None:
            rate = self.lambda_func(epoch + 1) * self.previous_backbone_lr
            rate = head if self.should_align and rate > head else rate
            optimizer.param_groups[-1]["lr"] = rate
        else:
            return
        self.previous_backbone_lr = rate
        if self.verbose:
            print(
                f"BackboneFinetuning: lr {round(head, self.rounding)}, "
                f"of the backbone {round(rate, self.rounding)}"
            )


def _doubles(epoch: int) -> float:
    return 2.0


def _backbone(module: "Module") -> nn.Module:
    found = getattr(module, "backbone", None)
    if not isinstance(found, nn.Module):
        reason = f"{type(module).__name__} has no module of that name"
        raise ConfigError("BackboneFinetuning(backbone)", found, reason, "Call what is frozen `backbone`")
    return found


def _inner(optimizer: Any) -> Optimizer:
    return getattr(optimizer, "optimizer", optimizer)


def _plain(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
