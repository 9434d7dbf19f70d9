"""Float8 by NVIDIA's Transformer Engine, where it is installed."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import nn

from blixt.fabric.errors import MissingPackageError
from blixt.fabric.precision.base import Precision, default_dtype


class TransformerEnginePrecision(Precision):
    """Linear and LayerNorm layers of Transformer Engine, under its float8 context.

    Args:
        weights_dtype: In which parameters are kept.
        recipe: A recipe of Transformer Engine, or the arguments of its `DelayedScaling`; by default that
            recipe as it comes.
        replace_layers: Replace `nn.Linear` and `nn.LayerNorm` unless the module has layers of Transformer
            Engine already; True and False leave no choice.
        fallback_compute_dtype: In which everything else computes; by default `weights_dtype`.

    Raises:
        MissingPackageError: Without Transformer Engine.
    """

    def __init__(
        self,
        *,
        weights_dtype: torch.dtype,
        recipe: Any = None,
        replace_layers: bool | None = None,
        fallback_compute_dtype: torch.dtype | None = None,
    ) -> None:
        self._engine = _import_engine()
        self.name = "transformer-engine-float16" if weights_dtype == torch.float16 else "transformer-engine"
        self.weights_dtype = self.storage_dtype = weights_dtype
        self.fallback_compute_dtype = fallback_compute_dtype or weights_dtype
        self.compute_dtype = self.fallback_compute_dtype
        self.param_dtype = weights_dtype
        self.replace_layers = replace_layers
        self.recipe = self._engine.recipe(**recipe) if isinstance(recipe, Mapping) else recipe

    @contextmanager
    def autocast(self, device: torch.device) -> Generator[None]:
        """Transformer Engine's context; layers it does not know compute in the fallback type."""
        with (
            default_dtype(self.weights_dtype),
            torch.autocast(device.type, dtype=self.fallback_compute_dtype),
            self._engine.autocast(self.recipe),
        ):
            yield

    def wrap(self, fn: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """`fn` under a fresh context each time, because Transformer Engine's keep state."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            with self.autocast(device):
                return fn(*args, **kwargs)

        return inside

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Layers replaced where their sides fit the hardware, everything in `weights_dtype`."""
        has_own = any(isinstance(child, self._engine.kinds) for child in module.modules())
        if self.replace_layers or (self.replace_layers is None and not has_own):
            self._replace(module)
        return module.to(self.weights_dtype)

    def init_context(self) -> AbstractContextManager[Any]:
        """Parameters are made in `weights_dtype` at once."""
        return default_dtype(self.weights_dtype)

    def _replace(self, module: nn.Module) -> None:
        for name, child in list(module.named_children()):
            fresh = self._engine.twin(child)
            if fresh is None:
                self._replace(child)
            else:
                fresh.load_state_dict(child.state_dict(), strict=False)
                setattr(module, name, fresh)


class _Engine:
    """The few names of Transformer Engine that are needed."""

    def __init__(self, te: Any, recipe: Any) -> None:
        self._te = te
        self.recipe = recipe
        self.kinds = (te.Linear, te.LayerNorm, te.LayerNormLinear)

    def autocast(self, recipe: Any) -> AbstractContextManager[Any]:
        """Newer versions renamed the context and its argument."""
        if hasattr(self._te, "autocast"):
            return self._te.autocast(enabled=True, recipe=recipe)
        return self._te.fp8_autocast(enabled=True, fp8_recipe=recipe)

    def twin(self, layer: nn.Module) -> nn.Module | None:
        """Transformer Engine's layer of the same shape, or None where it has none."""
        if isinstance(layer, nn.Linear):
            if layer.in_features % 8 != 0 or layer.out_features % 16 != 0:
                return None
            return self._te.Linear(
                layer.in_features, layer.out_features, bias=cast("Any", layer).bias is not None
            )
        if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1:
            return self._te.LayerNorm(layer.normalized_shape[0], eps=layer.eps)
        return None


def _import_engine() -> _Engine:
    try:
        import transformer_engine.pytorch as te  # pyright: ignore[reportMissingImports]
        from transformer_engine.common.recipe import (  # pyright: ignore[reportMissingImports]
            DelayedScaling,  # pyright: ignore[reportUnknownVariableType]
        )
    except ImportError as error:
        raise MissingPackageError(
            "precision='transformer-engine'", "transformer-engine[pytorch]", error
        ) from error
    return _Engine(te, DelayedScaling)
