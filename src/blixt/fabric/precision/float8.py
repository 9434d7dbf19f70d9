"""Matrix products in 8-bit floats, by the package torchao."""

from collections.abc import Iterable
from typing import Any, Literal, cast

import torch
from torch import nn

from blixt.fabric.errors import ConfigError, MissingPackageError, UsageError
from blixt.fabric.precision.base import Precision

Recipe = Literal["tensorwise", "rowwise", "rowwise_with_gw_hp"]
_RECIPES = ("tensorwise", "rowwise", "rowwise_with_gw_hp")
_MULTIPLE = 16


class Float8Precision(Precision):
    """Linear layers multiply in float8, forward and backward; parameters stay as they are kept.

    Compose it with the type of everything else: "bf16-mixed+float8" (which "float8" is short for) or
    "bf16-true+float8". It pays on GPUs that have float8 (Ada, Hopper and later), together with
    `torch.compile`; elsewhere the products are emulated, which shows the numbers but costs time.

    Args:
        recipe: "tensorwise" is the fastest, "rowwise" the more exact; "rowwise_with_gw_hp" keeps the
            gradients of weights in high precision.
        ignore_modules: Names, or beginnings of names, of submodules that stay as they are: {"output"}.
        emulate: Compute in 32 bit what float8 would give. None decides by the device.

    Raises:
        ConfigError: For an unknown recipe.
    """

    def __init__(
        self,
        recipe: Recipe = "tensorwise",
        ignore_modules: Iterable[str] | None = None,
        emulate: bool | None = None,
    ) -> None:
        if recipe not in _RECIPES:
            raise ConfigError(
                "Float8Precision(recipe)", recipe, "there is no such recipe", f"Use one of {_RECIPES}"
            )
        self.name = "float8"
        self.recipe: Recipe = recipe
        self.ignore_modules = set(ignore_modules or ())
        self.emulate = emulate

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Linear layers replaced whose sides are multiples of 16, as the hardware needs it.

        Their parameters stay the same objects, so optimizers that know them still do.

        Raises:
            UsageError: When no layer qualifies.
        """
        convert, config_type = _torchao()
        config = config_type.from_recipe_name(self.recipe)
        emulate = not _has_float8() if self.emulate is None else self.emulate
        if emulate:
            object.__setattr__(config, "emulate", True)  # the recipes are frozen and know no emulation
        chosen: set[str] = set()
        for name, child in cast("Iterable[tuple[str, nn.Module]]", module.named_modules()):
            if self._qualifies(child, name):
                chosen.add(name)
        if not chosen:
            raise UsageError(
                f"{type(module).__name__} has no linear layer whose sides are multiples of {_MULTIPLE}. "
                "Leave 'float8' out, or check ignore_modules."
            )

        def picked(_: nn.Module, name: str) -> bool:
            return name in chosen

        return convert(module, config=config, module_filter_fn=picked)

    def _qualifies(self, module: nn.Module, name: str) -> bool:
        if not isinstance(module, nn.Linear) or any(
            name == prefix or name.startswith(f"{prefix}.") for prefix in self.ignore_modules
        ):
            return False
        return module.in_features % _MULTIPLE == 0 and module.out_features % _MULTIPLE == 0


def _has_float8() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)


def _torchao() -> tuple[Any, Any]:
    try:
        from torchao.float8 import (  # pyright: ignore[reportMissingTypeStubs]
            Float8LinearConfig,
            convert_to_float8_training,  # pyright: ignore[reportUnknownVariableType]
        )
    except ImportError as error:
        raise MissingPackageError("precision='float8'", "torchao", error) from error
    return convert_to_float8_training, Float8LinearConfig
